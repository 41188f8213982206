import { getLogger } from "@logtape/logtape";

type Properties = Readonly<Record<string, unknown>>;

const library = getLogger(["replica"]);

/** Braces are placeholders to the library; a message that quotes a peer means them as they are. */
const literally = (message: string) => message.replaceAll("{", "{{").replaceAll("}", "}}");

/** What this program tells of itself: a message as it is, and figures for programs beside it. */
export const logger = {
  debug: (message: string, properties: Properties = {}) =>
    library.debug(literally(message), { ...properties }),
  info: (message: string, properties: Properties = {}) =>
    library.info(literally(message), { ...properties }),
  warn: (message: string, properties: Properties = {}) =>
    library.warn(literally(message), { ...properties }),
  error: (message: string, properties: Properties = {}) =>
    library.error(literally(message), { ...properties }),
};
