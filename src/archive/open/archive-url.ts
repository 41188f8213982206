/** Whether a SOURCE is the URL of an archive, and no path. */
export function isArchiveUrl(source: string): boolean {
  return /^(?:s3|file):\/\//.test(source);
}
