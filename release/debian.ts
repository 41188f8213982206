import { $ } from "bun";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import manifest from "../package.json" with { type: "json" };
import { projectDir } from "./locked.ts";

/** What is in every Debian package, whatever its architecture. */
export interface Contents {
  /** Paths below the root, without a slash in front, and what is there. */
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  /** Those in /etc, which an upgrade leaves as the operator made them. */
  readonly conffiles: readonly string[];
}

/** Paths in the package and the files of the repository that go there. */
const COPIED = {
  "etc/default/replica": "release/debian/default",
  "usr/lib/sysusers.d/replica.conf": "release/debian/sysusers.conf",
  "usr/bin/replica-proof": "deploy/replica-proof",
  "usr/lib/systemd/system/replica-proof.timer": "deploy/replica-proof.timer",
  "usr/share/doc/replica/examples/replica-password.conf": "deploy/replica-password.conf",
  "usr/share/doc/replica/examples/replica-tls.conf": "deploy/replica-tls.conf",
  "usr/share/doc/replica/examples/alerts.yml": "deploy/alerts.yml",
  "usr/share/doc/replica/examples/grafana-dashboard.json": "deploy/grafana-dashboard.json",
  "usr/share/doc/replica/README.md": "README.md",
  "usr/share/doc/replica/OPERATIONS.md": "docs/OPERATIONS.md",
  "usr/share/doc/replica/RESTORE.md": "docs/RESTORE.md",
};

const SCRIPTS = ["postinst", "prerm", "postrm"] as const;
/** Group and others may read what is installed, and no more. */
const [FILE_MODE, PROGRAM_MODE] = [0o644, 0o755];

/** What the program prints for people's shells and for man(1), and where Debian looks for it. */
const PRINTED = {
  "usr/share/bash-completion/completions/replica": ["completion", "bash"],
  "usr/share/zsh/vendor-completions/_replica": ["completion", "zsh"],
  "usr/share/fish/vendor_completions.d/replica.fish": ["completion", "fish"],
} as const;

/**
 * Gathers what the packages hold beside the program.
 * @param licences of all that the program contains.
 */
export async function gatherContents(licences: string): Promise<Contents> {
  const read = (path: string) => readFileSync(join(projectDir, path));
  const files: Record<string, string | Uint8Array> = {
    "usr/lib/systemd/system/replica.service": packagedUnit(
      read("deploy/replica.service").toString(),
    ),
    "usr/lib/systemd/system/replica-proof.service": packagedUnit(
      read("deploy/replica-proof.service").toString(),
      "# Proves that what the replica keeps can be restored: systemctl enable --now replica-proof.timer. Its settings are in\n# /etc/default/replica-proof; it needs redis-server or valkey-server.\n\n",
    ),
    "usr/share/doc/replica/copyright": licences,
    "usr/share/doc/replica/changelog.gz": packed(read("docs/CHANGELOG.md")),
    "usr/share/man/man1/replica.1.gz": packed(Buffer.from(await printedBy(["man"]))),
  };
  for (const [path, from] of Object.entries(COPIED)) files[path] = read(from);
  for (const [path, argv] of Object.entries(PRINTED)) files[path] = await printedBy(argv);
  return { files, conffiles: Object.keys(files).filter((path) => path.startsWith("etc/")) };
}

/** gzip writes the time into its header; this doesn't. */
function packed(bytes: Uint8Array<ArrayBuffer>): Uint8Array {
  return Bun.gzipSync(bytes, { level: 9 });
}

async function printedBy(argv: readonly string[]): Promise<string> {
  return await $`${process.execPath} src/main.ts ${argv}`.cwd(projectDir).quiet().text();
}

/**
 * Returns the unit of a package: the one in deploy/, but with the program where packages have theirs, and the user that the
 * package makes in place of one that exists only while the service runs. So the data directory has an owner that an operator's
 * commands can take on.
 * @throws Error where the unit has no such lines.
 */
export function packagedUnit(
  unit: string,
  head = "# systemd unit for one replica. Its settings are in /etc/default/replica.\n\n",
): string {
  const changes: [RegExp, string][] = [
    // The comment at its top, empty lines of it included, says how to install it by hand.
    [/^(?:#.*\n|\n)+(?=\[Unit\])/, head],
    [/^ExecStart=\/usr\/local\/bin\//m, "ExecStart=/usr/bin/"],
    [/^#.*\nDynamicUser=yes\n(?:User=replica\n)?/m, "User=replica\nGroup=replica\n"],
  ];
  return changes.reduce((text, [from, to]) => {
    if (!from.test(text)) throw new Error(`deploy/replica.service has nothing like ${from}`);
    return text.replace(from, to);
  }, unit);
}

/** Debian sorts `0.2.0~rc.1` before `0.2.0`. */
export const debianVersion: string = manifest.version.replace("-", "~");

/**
 * Builds a Debian package.
 * @param program the compiled program for that architecture.
 * @param date of all files in it.
 * @param into the folder that gets it.
 * @returns its path.
 */
export async function debianPackage(
  architecture: "amd64" | "arm64",
  program: string,
  { files, conffiles }: Contents,
  date: Date,
  into: string,
): Promise<string> {
  const root = join(into, `.packing-${architecture}`);
  const lay = (path: string, content: string | Uint8Array, mode = FILE_MODE) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), mode);
  };
  for (const [path, content] of Object.entries(files)) {
    lay(path, content, path.startsWith("usr/bin/") ? PROGRAM_MODE : FILE_MODE);
  }
  copyFileSync(program, join(root, "usr/bin/replica"));
  chmodSync(join(root, "usr/bin/replica"), PROGRAM_MODE);
  const installed = [...Object.keys(files), "usr/bin/replica"].toSorted();
  const kiB = installed.reduce(
    (sum, path) => sum + Math.ceil(statSync(join(root, path)).size / 1024),
    0,
  );
  const control = readFileSync(join(projectDir, "release/debian/control"), "utf8")
    .replace("@VERSION@", debianVersion)
    .replace("@ARCHITECTURE@", architecture)
    .replace("@SIZE@", String(kiB));
  lay("DEBIAN/control", control);
  lay("DEBIAN/conffiles", conffiles.map((path) => `/${path}\n`).join(""));
  lay(
    "DEBIAN/md5sums",
    installed
      .filter((path) => !conffiles.includes(path))
      .map((path) => `${md5(join(root, path))}  ${path}\n`)
      .join(""),
  );
  for (const name of SCRIPTS) {
    lay(`DEBIAN/${name}`, readFileSync(join(projectDir, "release/debian", name)), PROGRAM_MODE);
  }
  settle(root, date);
  const path = join(into, `replica_${debianVersion}_${architecture}.deb`);
  // gzip: every dpkg reads it, one thread makes the same bytes each time, and xz would take a minute.
  await $`dpkg-deb --root-owner-group -Zgzip -z6 --build ${root} ${path}`
    .env({ ...process.env, SOURCE_DATE_EPOCH: String(date.getTime() / 1000) })
    .quiet();
  rmSync(root, { recursive: true });
  return path;
}

/** Gives folders their mode, whatever the umask, and everything its time. */
function settle(root: string, date: Date): void {
  for (const name of ["", ...readdirSync(root, { recursive: true, encoding: "utf8" })]) {
    const path = join(root, name);
    if (statSync(path).isDirectory()) chmodSync(path, PROGRAM_MODE);
    utimesSync(path, date, date);
  }
}

function md5(path: string): string {
  return new Bun.CryptoHasher("md5").update(readFileSync(path)).digest("hex");
}
