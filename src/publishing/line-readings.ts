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
  const heldBack: { line: number; problem: string }[] = [];
  let isAlike = true;
  const tell = () => {
    isAlike = false;
    for (const { line, problem } of heldBack.splice(0)) onProblem(line, problem);
  };
  for await (const { line, text, problem } of lines) {
    const found = text === null ? `${problem}` : read(text);
    if (typeof found !== 'string') {
      tell();
      yield { line, ...found };
      continue;
    }
    const [first = { line, problem: found }] = heldBack;
    heldBack.push({ line, problem: found });
    if (!isAlike || causeOf(first.problem) !== causeOf(found)) tell();
    else if (heldBack.length >= maxAlike) {
      throw new InputError(
        `nothing was done, for the first ${maxAlike} are all refused for one cause; line ${first.line}: ${first.problem}`,
      );
    }
  }
  tell();
}

/** Without what differs from line to line. */
function causeOf(problem: string): string {
  return problem.replace(/"(?:[^"\\]|\\.)*"|[\d,]+/g, '…');
}
