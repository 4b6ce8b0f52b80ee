/**
 * Reads text by text what is one thing each, an event or an entity. A text that is none is told and spoils no other, unless all
 * of the first ones fail for one cause: then that is said once, before anything is done.
 */
import { InputError } from '../errors.ts';
import type { TextLine } from './text-lines.ts';

/** Told of every line that is refused, in one sentence. */
export type ProblemListener = (line: number, problem: string) => void;

export type WithLine<T> = T & { readonly line: number };

/** Enough to be no accident, and few enough to be worth starting again. */
export const maxAlike = 20;

/** `read` answers with a sentence where there is nothing. @throws InputError when the first lines all fail for one cause. */
export async function* readEach<T extends object>(
  lines: AsyncIterable<TextLine>,
  read: (text: string) => T | string,
  onProblem: ProblemListener,
): AsyncGenerator<WithLine<T>> {
  let alike: { line: number; problem: string }[] | null = [];
  const tell = () => {
    for (const { line, problem } of alike ?? []) onProblem(line, problem);
    alike = null;
  };
  for await (const { line, text, problem } of lines) {
    const found = text === null ? `${problem}` : read(text);
    if (typeof found !== 'string') {
      tell();
      yield { line, ...found };
      continue;
    }
    if (alike !== null && alike.length > 0 && causeOf(alike[0]!.problem) !== causeOf(found)) tell();
    if (alike === null) onProblem(line, found);
    else if (alike.push({ line, problem: found }) >= maxAlike) {
      const [first] = alike;
      throw new InputError(`nothing was done, for the first ${maxAlike} are all refused for one cause; line ${first!.line}: ${first!.problem}`);
    }
  }
  tell();
}

/** Without what differs from line to line. */
function causeOf(problem: string): string {
  return problem.replace(/"(?:[^"\\]|\\.)*"|[\d,]+/g, '…');
}
