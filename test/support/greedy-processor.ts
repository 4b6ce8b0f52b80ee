/**
 * A PROCESSOR for tests, which is `history`: from one SIGHUP to the next it takes every file descriptor that its process may have.
 */
import { closeSync, openSync } from 'node:fs';
import { historyAggregate } from '../../src/index.ts';

const taken: number[] = [];
let taking: NodeJS.Timeout | null = null;

function take(): void {
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch {
    // None is left.
  }
}

process.on('SIGHUP', () => {
  if (taking === null) {
    taking = setInterval(take, 5);
    return;
  }
  clearInterval(taking);
  taking = null;
  for (const descriptor of taken.splice(0)) closeSync(descriptor);
});

export default historyAggregate();
