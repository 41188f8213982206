import { usageError } from "../../base/errors.ts";

/** An option, as the table of commands takes it. */
interface ArchiveOption {
  readonly name: string;
  readonly value: string;
  readonly help: string;
}

/** How an archive is reached and read. */
export const archiveOptions: readonly ArchiveOption[] = [
  {
    name: "archive-endpoint",
    value: "URL",
    help: "the server of an s3:// archive, such as https://host:port [AWS_ENDPOINT_URL, else Amazon's]",
  },
  {
    name: "archive-region",
    value: "NAME",
    help: "the region of an s3:// archive's bucket [AWS_REGION, or what the server tells]",
  },
  {
    name: "archive-identity",
    value: "FILE",
    help: "the file of the age identity that reads an encrypted archive",
  },
];

/** For `verify` alone. */
export const quickOption: ArchiveOption = {
  name: "quick",
  value: "",
  help: "of an archive, check names, sizes and how its objects join, without reading them all",
};

/** What paragraphs of help say about SOURCE. */
export const aboutSource = `SOURCE is a data directory, or the URL of an archive: s3://bucket/prefix, with the keys from where
every S3 tool takes them (environment, profiles, roles), or file:///path.`;

/** Whether a command's SOURCE is the URL of an archive. */
export function isArchiveUrl(source: string): boolean {
  return /^(?:s3|file):\/\//.test(source);
}

/** Refuses options that only an archive takes. @throws ReplicaError USAGE. */
export function refuseArchiveOptions(source: string, options: ReadonlyMap<string, string>): void {
  const only = [...archiveOptions, quickOption].find(({ name }) => options.has(name));
  if (only === undefined) return;
  throw usageError(
    `--${only.name} is for an archive, s3://bucket/prefix or file:///path, and ${JSON.stringify(source.slice(0, 100))} is none`,
  );
}
