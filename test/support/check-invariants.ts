import { checkInvariants } from "../../src/base/invariants.ts";

// Loaded before every test file (bunfig.toml): each module checks its invariant at each move.
checkInvariants();
