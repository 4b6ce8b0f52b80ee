/**
 * Questions to the server. The token, once given, goes into the `Authorization` header of each and lives as long as the
 * tab; there is no cookie that another page could make a browser send.
 */

const tokenKey = 'inorder-admin-token';
const timeoutMs = 20_000;

/** An answer that is a refusal, in the server's words; status 0: there was no answer. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function hasToken() {
  return sessionStorage.getItem(tokenKey) !== null;
}

/** @param {string | null} token */
export function setToken(token) {
  if (token === null) sessionStorage.removeItem(tokenKey);
  else sessionStorage.setItem(tokenKey, token);
}

/** @param {string} path @param {Record<string, string>} [query] @returns {Promise<any>} */
export function ask(path, query = {}) {
  const parameters = new URLSearchParams(query);
  return call('GET', parameters.size === 0 ? path : `${path}?${parameters}`);
}

/** @param {string} path @param {object} [body] @returns {Promise<any>} */
export function tell(path, body = {}) {
  return call('POST', path, JSON.stringify(body));
}

/** @param {string} method @param {string} path @param {string} [body] */
async function call(method, path, body) {
  const token = sessionStorage.getItem(tokenKey);
  /** @type {Record<string, string>} */
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  if (token !== null) headers['authorization'] = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(`console/api/${path}`, {
      method,
      headers,
      body,
      signal: AbortSignal.timeout(timeoutMs),
      credentials: 'omit',
      redirect: 'error',
    });
  } catch {
    throw new Refused(0, 'the server does not answer');
  }
  const answer = await response.json().catch(() => ({ error: `the server answers with status ${response.status}` }));
  if (!response.ok) throw new Refused(response.status, String(answer.error));
  return answer;
}
