import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { parseCommandLine } from "../../src/cli/flags.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { parseDurationMs } from "../../src/base/quantity.ts";
import { tempDir } from "../support/temp.ts";
import { environmentOf, parseUnit, startedBy, valuesOf, withSpecifiers } from "./unit-file.ts";

const deployDir = join(import.meta.dir, "../../deploy");
const unit = parseUnit(await Bun.file(join(deployDir, "replica.service")).text());
const passwords = parseUnit(await Bun.file(join(deployDir, "replica-password.conf")).text());

/** The one value of a directive of [Service]. */
function service(name: string): string {
  const values = valuesOf(unit, "Service", name);
  expect([name, values]).toEqual([name, [expect.any(String)]]);
  return values[0]!;
}

/** The words of the command that the unit starts, and the variables of its settings. */
function started(specifiers: Record<string, string>, env: Record<string, string>) {
  const words = startedBy(unit, specifiers, env);
  const variables = Object.entries(env)
    .filter(([name]) => name !== "PRIMARY")
    .map(([name, value]) => [name, withSpecifiers(value, specifiers)]);
  return { words, variables: Object.fromEntries(variables) as Record<string, string> };
}

describe("the unit file", () => {
  test("has each directive in its section, and once unless it is a list", () => {
    expect([...unit.keys()]).toEqual(["Unit", "Service", "Install"]);
    const lists = ["Environment", "SystemCallFilter"];
    const ofUnit = /^(?:Description|Documentation|Wants|After|StartLimit\w+)$/;
    for (const [section, directives] of unit) {
      const names = directives.map(([name]) => name).filter((name) => !lists.includes(name));
      expect(names).toEqual([...new Set(names)]);
      for (const name of names) {
        const at = ofUnit.test(name) ? "Unit" : name === "WantedBy" ? "Install" : "Service";
        expect([name, section]).toEqual([name, at]);
      }
    }
  });

  test("starts the program with settings that it takes", () => {
    const { words, variables } = started({ S: "/var/lib" }, environmentOf(unit));
    expect(words[0]).toBe("/usr/local/bin/replica");
    const invocation = parseCommandLine(words.slice(1));
    if (invocation.ask !== "run") throw new Error(`it asks for ${invocation.ask}`);
    expect(invocation.command.name).toBe("follow");
    expect(invocation.args).toEqual(["redis://127.0.0.1:6379"]);
    const settings = loadSettings({ flags: invocation.flags, env: variables });
    expect(settings.dir).toBe(`/var/lib/${service("StateDirectory")}`);
    expect(settings.http).toEqual({ host: "127.0.0.1", port: 6395 });
  });

  test("passes the password as a file that the program reads", async () => {
    using dir = tempDir("credentials");
    expect([...passwords.keys()]).toEqual(["Service"]);
    const [credential] = valuesOf(passwords, "Service", "LoadCredential");
    const [name] = credential!.split(":");
    await Bun.write(dir.file(name!), "a password\n");
    const env = { ...environmentOf(unit), ...environmentOf(passwords) };
    const { variables } = started({ S: "/var/lib", d: dir.path }, env);
    expect(loadSettings({ env: variables }).password?.read()).toBe("a password");
  });

  test("is reloaded by SIGHUP only where certificates are served, which it reads where they are", async () => {
    const tls = parseUnit(await Bun.file(join(deployDir, "replica-tls.conf")).text());
    expect([...tls.keys()]).toEqual(["Service"]);
    expect(valuesOf(tls, "Service", "ExecReload")).toEqual(["/bin/kill -HUP $MAINPID"]);
    expect(valuesOf(unit, "Service", "ExecReload")).toEqual([]);
    const { portTls } = loadSettings({ env: environmentOf(tls) });
    expect(portTls?.files.key).toBe("/etc/ssl/private/replica.key");
    expect(valuesOf(tls, "Service", "LoadCredential")).toEqual([]);
  });

  test("uses sd_notify, and waits longer than a stop may take", () => {
    expect(service("Type")).toBe("notify");
    expect(service("RestrictAddressFamilies").split(" ")).toContain("AF_UNIX");
    expect(parseDurationMs(service("WatchdogSec"))).toBeGreaterThanOrEqual(10_000);
    expect(parseDurationMs(service("TimeoutStopSec"))).toBeGreaterThan(2_000);
    expect(parseDurationMs(service("TimeoutStartSec"))).toBeGreaterThan(2_000);
  });

  test("restarts after any exit code but 2 and 3, which need a person", () => {
    expect(service("Restart")).toBe("on-failure");
    expect(service("RestartPreventExitStatus")).toBe("2 3");
  });

  test("drops every privilege that the program doesn't need, and none that it does", () => {
    const hardened = [
      "DynamicUser",
      "NoNewPrivileges",
      "ProtectHome",
      "PrivateTmp",
      "PrivateDevices",
      "ProtectKernelModules",
      "RestrictNamespaces",
      "LockPersonality",
    ];
    for (const name of hardened) expect([name, service(name)]).toEqual([name, "yes"]);
    expect(service("ProtectSystem")).toBe("strict");
    expect([service("StateDirectoryMode"), service("UMask")]).toEqual(["0750", "0027"]);
    expect(valuesOf(unit, "Service", "CapabilityBoundingSet")).toEqual([]);
    expect(unit.get("Service")).toContainEqual(["CapabilityBoundingSet", ""]);
    // Machine code made at run time, and the boot id.
    expect(valuesOf(unit, "Service", "MemoryDenyWriteExecute")).toEqual([]);
    expect(valuesOf(unit, "Service", "ProcSubset")).toEqual([]);
  });
});

test("refuses what is not a unit file", () => {
  expect(() => parseUnit("Type=notify\n")).toThrow("no directive: Type=notify");
  expect(() => parseUnit("[Service]\nType notify\n")).toThrow("no directive: Type notify");
  expect(() => parseUnit("[Service]\n[Service]\n")).toThrow("two sections [Service]");
  const lists = parseUnit("[Service]\nA=1\nA=\nA=2 \\\n3\n");
  expect(valuesOf(lists, "Service", "A")).toEqual(["2  3"]);
});
