/**
 * Formats JSON text without interpreting it: numbers, escapes in strings, duplicate keys and the order
 * stay as the producer wrote them.
 */

const deepestIndent = 40;

/** Strings, empty pairs of brackets, numbers and words, and the text between them. */
const tokens = /"(?:[^"\\]|\\.)*"|[[{]\s*[\]}]|[^\s[\]{},:"]+|[[\]{},:]/g;

/** Null when the text is not JSON. */
export function layOutJson(text: string): string | null {
  if (!isJson(text)) return null;
  const out: string[] = [];
  let depth = 0;
  // Deeper levels are not indented further, or lines would be mostly indentation.
  const newLine = () => `\n${'  '.repeat(Math.min(depth, deepestIndent))}`;
  for (const [token] of text.matchAll(tokens)) {
    if (token === '{' || token === '[') {
      depth++;
      out.push(token, newLine());
    } else if (token === '}' || token === ']') {
      depth--;
      out.push(newLine(), token);
    } else if (token === ',') out.push(token, newLine());
    else if (token === ':') out.push(': ');
    else if (token.startsWith('{') || token.startsWith('[')) out.push(token.charAt(0), token.slice(-1));
    else out.push(token);
  }
  return out.join('');
}

/** On one line, without the spaces between its parts. Null when the text is not JSON. */
export function compactJson(text: string): string | null {
  if (!isJson(text)) return null;
  return Array.from(text.matchAll(tokens), ([token]) => (token.startsWith('"') ? token : token.replace(/\s+/g, ''))).join('');
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
