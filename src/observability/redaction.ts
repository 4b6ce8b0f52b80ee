/** Keeps credentials out of what is printed: whatever carries a URL may carry its password. */

/** Replaces the user and the password of every URL in a text, also where they contain an `@`. */
export function redactUrls(text: string): string {
  return text.replace(/:\/\/[^\s"'/]*@/g, '://***@');
}
