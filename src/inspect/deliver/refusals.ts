import { ReplicaError } from "../../base/errors.ts";
import { printableAscii } from "../../base/printable.ts";
import { Rights } from "../../session/rights.ts";

/** What follows from a server's error in answer to a command for one key. */
export type Refusal =
  /** The key is there already. */
  | { readonly kind: "exists" }
  /** Not now: the same command is sent again after a pause. */
  | { readonly kind: "again"; readonly why: string; readonly reconnect: boolean }
  /** Another node of the cluster has the slot; `ask`: for this command alone. */
  | { readonly kind: "moved" | "ask"; readonly slot: number; readonly address: string }
  /** This value is refused, and others aren't. */
  | { readonly kind: "failed"; readonly why: string }
  /** Whatever is sent next is refused as well. */
  | { readonly kind: "stop"; readonly error: ReplicaError };

const MAX_SAID = 200;

/** What passes by itself: loading, a script, a failover or a reshard under way, replicas that are missing. */
const PASSING =
  /^(?:LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|FAILOVER|PAUSED)\b/;

/**
 * Reads an error in answer to a command.
 * @param text without the `-`.
 * @param asked what was sent, for the right that is missing, and for whom.
 */
export function readRefusal(
  text: string,
  asked: { readonly command: string; readonly user: string | undefined; readonly at: string },
): Refusal {
  const said = printableAscii(text, MAX_SAID);
  if (said.startsWith("BUSYKEY")) return { kind: "exists" };
  if (PASSING.test(said)) return { kind: "again", why: said, reconnect: false };
  // It was the primary when it was asked: a failover. A new connection finds out who is it now.
  if (said.startsWith("READONLY")) return { kind: "again", why: said, reconnect: true };
  const redirect = /^(MOVED|ASK) (\d{1,5}) (\S{1,300})$/.exec(said);
  if (redirect !== null) {
    const [, how, slot, address = ""] = redirect;
    return { kind: how === "ASK" ? "ask" : "moved", slot: Number(slot), address };
  }
  if (/Bad data format/i.test(said)) {
    const why = `it can't read the value (${said}): is it of a module that isn't loaded there?`;
    return { kind: "failed", why };
  }
  return { kind: "stop", error: stopError(said, text, asked) };
}

function stopError(
  said: string,
  text: string,
  { command, user, at }: Parameters<typeof readRefusal>[1],
): ReplicaError {
  if (said.startsWith("OOM")) {
    return refused(
      `${at} is full (${said}): raise its maxmemory, or make room there, and run this again: what is there by then stays`,
    );
  }
  if (said.startsWith("MISCONF")) {
    return refused(`${at} takes no writes, because it can't save (${said}): see its log`);
  }
  if (/^(?:NOPERM|NOAUTH)\b/.test(said)) {
    const rights = new Rights(user);
    const isOfKey = /\bkeys?\b/i.test(said) && !/command/i.test(said);
    rights.lack(command, Buffer.from(`-${text}`));
    const grant = isOfKey
      ? `grant it these keys, such as with ACL SETUSER ${user ?? "default"} ~*`
      : `send it ${rights.grant}`;
    const how = said.startsWith("NOAUTH")
      ? "put the login into the URL of --into, or the password into a file for --into-password-file"
      : grant;
    return new ReplicaError("AUTH_FAILED", {
      retry: "never",
      message: `${at} doesn't permit ${command} (${said}): ${how}`,
    });
  }
  if (/version or checksum/i.test(said)) {
    return refused(
      `${at} can't read the form of a value (${said}): is another server, or an older version, answering there now?`,
    );
  }
  return refused(`${at} refuses ${command}: ${said}`);
}

function refused(message: string): ReplicaError {
  return new ReplicaError("TARGET_REFUSED", { retry: "never", message });
}
