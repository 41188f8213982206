import { getLogger } from "@logtape/logtape";

type Properties = Readonly<Record<string, unknown>>;

const library = getLogger(["replica"]);

/** Escapes braces, which are placeholders to the library: a message may quote a peer's. */
const literally = (message: string) => message.replaceAll("{", "{{").replaceAll("}", "}}");

/** The log: a message for people, and properties for programs. */
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
