import { getLogger } from "@logtape/logtape";

export type Properties = Readonly<Record<string, unknown>>;

const library = getLogger(["replica"]);

/** What belongs to every line that is logged here and now. */
let surroundings: () => Properties | undefined = () => undefined;

/** Escapes braces, which are placeholders to the library: a message may quote a peer's. */
const literally = (message: string) => message.replaceAll("{", "{{").replaceAll("}", "}}");

/** The log: a message for people, and properties for programs. */
export const logger = {
  debug: (message: string, properties: Properties = {}) =>
    library.debug(literally(message), { ...surroundings(), ...properties }),
  info: (message: string, properties: Properties = {}) =>
    library.info(literally(message), { ...surroundings(), ...properties }),
  warn: (message: string, properties: Properties = {}) =>
    library.warn(literally(message), { ...surroundings(), ...properties }),
  error: (message: string, properties: Properties = {}) =>
    library.error(literally(message), { ...surroundings(), ...properties }),
};

/** Lets every line carry what `now` returns when it is logged, besides its own properties. */
export function surroundLogs(now: () => Properties | undefined): void {
  surroundings = now;
}
