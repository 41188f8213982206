/** What the program sees of a file here: its text, which it serves. */
declare const text: string;
// oxlint-disable-next-line import/no-default-export -- a file that is imported as text has no other
export default text;
