import type { CredentialSource } from "./credentials.ts";

/**
 * Credentials from where Amazon's tools take them: shared files and profiles, container and instance roles, web
 * identity. Their code is loaded with the first request that needs it.
 */
export function sdkCredentials(): CredentialSource {
  return async () => {
    const { defaultProvider } = await import("@aws-sdk/credential-provider-node");
    // Made anew each time: it would remember, and its memory can't be told that a server refused what it has.
    // The shared files, too, are remembered for as long as the process lives, unless it is told.
    const provider = defaultProvider({ ignoreCache: true });
    const { accessKeyId, secretAccessKey, sessionToken, expiration } = await provider();
    return {
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === undefined ? {} : { sessionToken }),
      ...(expiration === undefined ? {} : { expiresAtMs: expiration.getTime() }),
    };
  };
}
