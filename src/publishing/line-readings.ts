/**
 * Reads texts one by one, each an event or an entity. An invalid one is reported and does not affect the others, unless all
 * of the first ones fail for one cause: then that is reported once, before anything is done.
 */
import { InputError } from '../errors.ts';
import type { TextLine } from './text-lines.ts';

/** Called for every refused line, with the problem in one sentence. */
export type ProblemListener = (line: number, problem: string) => void;

export type WithLine<T> = T & { readonly line: number };

/** Enough to be no accident, and few enough to start again. */
export const maxAlike = 20;

/** `read` returns a sentence for an invalid text. @throws InputError when the first lines all fail for one cause. */
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

/** The problem without the parts that differ between lines. */
function causeOf(problem: string): string {
  return problem.replace(/"(?:[^"\\]|\\.)*"|[\d,]+/g, '…');
}
