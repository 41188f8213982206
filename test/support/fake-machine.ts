import type { Machine } from "../../src/store/keep/lived-clock.ts";

/** A machine whose time passes when a test says so. */
export class FakeMachine implements Machine {
  bootId = "boot-1";
  #uptimeMs = 1_000_000;

  uptimeMs(): number {
    return this.#uptimeMs;
  }

  /** So much time passes, whatever the wall clock says. */
  pass(ms: number): void {
    this.#uptimeMs += ms;
  }

  /** It is off for a while, and booted again. */
  reboot(): void {
    this.bootId = `boot-${crypto.randomUUID()}`;
    this.#uptimeMs = 5_000;
  }
}
