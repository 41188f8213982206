import { isIP } from "../base/address.ts";

/**
 * The beginning of a URL up to its password, and the password up to the last @, which it may itself contain. The
 * colon of a scheme that is known may have been forgotten.
 */
const withLogin =
  /^(?:--(?:[a-z-]+=)?)?((?:[a-z][a-z+]*:\/{1,2}|rediss?(?:\+sentinel)?\/\/)?[^\s:/@"[]*:)(?!\/\/)(.*)@/is;
/** A URL without an @: what follows the colon may be a password whose host is missing. */
const withoutHost =
  /^(?:--(?:[a-z-]+=)?)?((?:[a-z][a-z+]*:\/{1,2}|rediss?(?:\+sentinel)?\/\/)[^\s:/@"[]*:)(?!\d{1,5}(?:\/|$))(.+)$/is;
/** A URL's password in a text of unknown origin; it ends with the word. */
const inText =
  /(?<![a-z+])((?:[a-z][a-z+]*:\/{1,2}|rediss?(?:\+sentinel)?\/{1,2})[^\s:/@"]*:)\S*@/gi;

/**
 * Removes the passwords of URLs from an error's text, and nothing else of it. A URL gets there when it is given in
 * place of a file, a directory or a flag's value, which errors quote: whole or cut short, as JSON, or as a path, which
 * has single slashes.
 * @param given what the text may quote: the arguments, and the values of variables.
 */
export function withoutPasswords(text: string, given: readonly string[]): string {
  return given.reduce(withoutThat, text).replace(inText, "$1***@");
}

function withoutThat(text: string, argument: string): string {
  const match = withLogin.exec(argument) ?? withoutHost.exec(argument);
  if (match === null) return text;
  const [, head = "", password = ""] = match;
  if (password === "" || isIP(argument.replace(/^[^/]*:\/\//, "")) === 6) return text;
  const isUrl = head.includes("/");
  const asPath = (part: string) => part.replace(/\/+/g, "/");
  const heads = new Set([head, asPath(head)]);
  const forms = [password, JSON.stringify(password).slice(1, -1), asPath(password)];
  let shown = text;
  for (const one of heads) shown = cutAfter(shown, one, forms, isUrl);
  return shown;
}

/**
 * Replaces what follows each `head` by stars, as far as it is the beginning of one of `forms`.
 * @param evenCutShort false: only a whole form is replaced, because `head` is too little to be sure.
 */
function cutAfter(
  text: string,
  head: string,
  forms: readonly string[],
  evenCutShort: boolean,
): string {
  const [before = "", ...parts] = text.split(head);
  const hidden = parts.map((part) => {
    const length = Math.max(
      ...forms.map((form) => {
        const same = sharedLength(part, form);
        return evenCutShort || same === form.length ? same : 0;
      }),
    );
    return length === 0 ? part : `***${part.slice(length)}`;
  });
  return [before, ...hidden].join(head);
}

function sharedLength(text: string, other: string): number {
  let length = 0;
  while (length < other.length && text[length] === other[length]) length++;
  return length;
}
