/**
 * Whether modules check the invariant that they state at each move. Off by default; on in tests, and with
 * `--log-level debug`. Ask before the check, so that it costs nothing while it is off.
 */
export let checksInvariants = false;

/** Turns the checks on for the rest of this process. */
export function checkInvariants(): void {
  checksInvariants = true;
}
