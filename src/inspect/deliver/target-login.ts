import type { Password } from "../../config/password.ts";
import type { Login } from "../../config/primary-url.ts";
import type { Credentials } from "../../session/commands.ts";
import type { PrimaryLogin } from "../../upstream/link/primary-login.ts";

/**
 * The login for the server that keys are brought into: of its URL, else the password of a file. What a primary's settings
 * and REPLICA_PASSWORD hold is never sent there.
 */
export function targetLogin(
  url: Login,
  file: Password | undefined,
): Pick<PrimaryLogin, "read" | "username"> {
  return {
    username: url.username,
    read: (): Credentials | undefined => {
      const { username, password } = url;
      const inUrl = "the login in the URL of --into (percent-encoded)";
      if (password !== undefined) return { username, password, from: inUrl };
      if (file === undefined) return undefined;
      const from = username === undefined ? file.from : `the user in the URL, and ${file.from}`;
      return { username, password: file.read(), from };
    },
  };
}
