/** Keeps credentials out of what is printed and kept: whatever carries a URL may carry its password. */

/** Replaces the user and the password of every URL in a text, also where they contain an `@`, or the password a `/`. */
export function redactUrls(text: string): string {
  return text.replace(/:\/\/(?:[^\s"'/:@]*:(?!\/\/)(?:(?!:\/\/)[^\s"'])*@|[^\s"'/]*@)/g, '://***@');
}

const secretName =
  '(?<![\\w-])[\\w-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|signature)s?';
const secrets: readonly (readonly [RegExp, string])[] = [
  // `password=…`, `"token": "…"`, `?api_key=…`
  [new RegExp(`(${secretName}["']?\\s*[=:]\\s*)("(?:[^"\\\\]|\\\\.)*"?|'[^']*'?|[^\\s,;&)}\\]]+)`, 'gi'), '$1***'],
  // `password is hunter2`, and not `password is wrong`
  [new RegExp(`(${secretName}\\s+(?:is|was)\\s+)(?:"[^"]*"?|'[^']*'?|(?=\\S*\\d)\\S+)`, 'gi'), '$1***'],
  [/(\bauthorization["']?\s*[=:]\s*["']?)(?:(?:basic|bearer|digest)\s+)?[^\s"',;]+/gi, '$1***'],
  [/\b(bearer|basic)\s+(?=\S*[\d._~+/=-])[\w.~+/=-]{6,}/gi, '$1 ***'],
  // A JSON Web Token
  [/\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g, '***'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*-----|$)/g, '***'],
];

/** Also what names itself a secret: passwords, tokens, keys. For words from elsewhere, which nobody has looked at. */
export function redactSecrets(text: string): string {
  return secrets.reduce((redacted, [pattern, to]) => redacted.replace(pattern, to), redactUrls(text));
}
