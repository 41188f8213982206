import { usageError } from "../../base/errors.ts";

/** For `verify` alone. */
export const quickOption = {
  name: "quick",
  value: "",
  help: "of an archive, check names, sizes and how its objects join, without reading them all",
};

/** What paragraphs of help say about SOURCE. */
export const aboutSource = `SOURCE is a data directory, or the URL of an archive: s3://bucket/prefix, with the keys from where
every S3 tool takes them (environment, profiles, roles), or file:///path.`;

/** Refuses --quick for anything but an archive. @throws ReplicaError USAGE. */
export function refuseQuick(source: string, options: ReadonlyMap<string, string>): void {
  if (!options.has(quickOption.name)) return;
  throw usageError(
    `--${quickOption.name} is for an archive, s3://bucket/prefix or file:///path, and ${JSON.stringify(source.slice(0, 100))} is none`,
  );
}
