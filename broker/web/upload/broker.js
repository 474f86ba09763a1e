/** Requests to the broker, with the application's token or with an upload's own. */

import { UploadError, brokerRefusal, isOffline, unreachable } from "./errors.js";
import { deadline } from "./waiting.js";

const ANSWER_WITHIN = 120; // seconds

export class Broker {
  /** `prefix` is the broker's address; `getToken` is not called once an answer brought an `uploadToken`. */
  constructor(prefix, getToken) {
    this.prefix = String(new URL(prefix, globalThis.location?.href)).replace(/\/*$/, "/");
    this.getToken = getToken;
    this.uploadToken = null;
  }

  /** Send one request and return its answer; after a 401, retry once with a fresh token. */
  async ask(method, path, { headers = {}, body, signal, file }) {
    for (let renewed = false; ; renewed = true) {
      const sent = { ...headers, Authorization: `Bearer ${this.uploadToken ?? (await this.token(renewed))}` };
      if (body) sent["Content-Type"] = "application/json";
      const limited = deadline(ANSWER_WITHIN, signal);
      let response, answer;
      try {
        const request = { method, headers: sent, body: body && JSON.stringify(body), cache: "no-store" };
        response = await fetch(this.prefix + path, { ...request, signal: limited.signal });
        answer = await response.json().catch(noAnswer);
      } catch (cause) {
        signal?.throwIfAborted();
        throw unreachable("The broker", this.prefix, { again: "same", cause });
      } finally {
        limited.release();
      }
      if (response.ok && (answer.media_id || answer.uploads)) return answer;
      if (response.ok)
        throw new UploadError("not-a-broker", `${this.prefix} is not the address of a broker.`, "Check the prefix.");
      if (response.status === 401 && !renewed && !this.uploadToken) continue;
      const after = Number(response.headers.get("Retry-After"));
      throw brokerRefusal(response.status, answer, { file, after });
    }
  }

  /** Return the application's token. */
  token(renewed) {
    return fromApplication("token", () => this.getToken({ renewed }));
  }
}

/** Return what the application's function returns. A TypeError is what its fetch throws offline, so it is retried. */
export async function fromApplication(name, call) {
  try {
    return await call();
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    const what = `The application could not get the ${name} (${cause.message}).`;
    throw new UploadError(isOffline() ? "offline" : "application", what, "", { again: "same", cause });
  }
}

/** Return an empty answer for a body that is not JSON, such as a proxy's page. Throws what broke the connection. */
function noAnswer(error) {
  if (error instanceof SyntaxError) return {};
  throw error;
}

/** Return the `sub` of a JSON Web Token, or an empty string if the token is of another kind. */
export function subjectOf(token) {
  try {
    const [, payload] = token.split(".");
    return String(JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/"))).sub ?? "");
  } catch {
    return "";
  }
}
