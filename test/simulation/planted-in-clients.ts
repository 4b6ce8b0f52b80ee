/** The defects of `npm run test:mutants` that are planted in the clients: publisher, replays, relay. */
import type { Planted } from './planted-defects.ts';

export const inClients: readonly Planted[] = [
  {
    name: 'publisher: a returned publish counts as confirmed',
    file: 'rabbitmq/publisher.ts',
    find: "entry.returned === null ? { status: 'confirmed' }",
    put: "entry.returned !== 'x' ? { status: 'confirmed' }",
  },
  {
    name: 'publisher: a nack counts as a confirm',
    file: 'rabbitmq/publisher.ts',
    find: 'if (refusal !== null) this.#nacked(entry);',
    put: 'if (refusal?.cause === 1) this.#nacked(entry);',
  },
  {
    name: 'publisher: what was in flight when its channel was lost is not sent again',
    file: 'rabbitmq/outbox.ts',
    find: "entry.state = 'waiting';\n      entry.returned = null;",
    put: 'entry.returned = null;',
  },
  {
    name: 'publisher: what was in flight when its channel was lost goes behind newer events',
    file: 'rabbitmq/outbox.ts',
    find: '    this.#inFlight = 0;\n    this.#next = this.#head;',
    put:
      '    const late = this.#entries.slice(this.#head, this.#next);\n    this.#entries.splice(this.#head, late.length);\n' +
      '    this.#entries.push(...late);\n    this.#inFlight = 0;\n    this.#next = this.#head;',
  },
  {
    name: 'publisher: what was refused is not waited for',
    file: 'rabbitmq/publisher.ts',
    find: 'this.#suspect = entry;\n    this.#holding = true;',
    put: 'this.#suspect = entry;',
  },
  {
    name: 'publisher: there is always room',
    file: 'rabbitmq/publisher.ts',
    find: 'while (!this.#closed && !this.#outbox.hasRoom)',
    put: 'while (!this.#closed && this.#outbox.size < 0)',
  },
  {
    name: 'publisher: a full buffer is never empty again',
    file: 'rabbitmq/publisher.ts',
    find: "    channel.on('drain', () => {\n      this.#full = false;\n      this.#pump();\n    });",
    put: '',
  },
  {
    name: 'publisher: once it is closed, what is open has no outcome',
    file: 'rabbitmq/publisher.ts',
    find: "this.#giveUpAll(new UnavailableError('the publisher was closed before the broker confirmed this event'));",
    put: '',
  },
  {
    name: 'publisher: a channel that the broker has closed is not opened again',
    file: 'rabbitmq/kept-channel.ts',
    find: '    this.#retryLater();\n    if (life.announcedAtMs',
    put: '    if (life.announcedAtMs',
  },
  {
    name: 'publisher: the end of a channel is taken for a confirm of what was in flight',
    file: 'rabbitmq/publisher.ts',
    find: '    this.#outbox.rewind();\n    if (blame',
    put:
      "    for (let one = suspect; one !== null; one = this.#outbox.newestInFlight) this.#settle(one, { status: 'confirmed' });\n" +
      '    this.#outbox.rewind();\n    if (blame',
  },
  {
    name: 'replay: a letter is removed whatever became of its copy',
    file: 'dead-letters/replay.ts',
    find: "if (outcome.status !== 'confirmed') continue;",
    put: '',
  },
  {
    name: 'replay: with a letter all before it are removed',
    file: 'dead-letters/queue-reading.ts',
    find: 'this.#acknowledge(tag, false);',
    put: 'this.#acknowledge(tag, true);',
  },
  {
    name: 'relay: it advances before what it has sent is confirmed',
    file: 'event-sourcing/relay.ts',
    find: 'await publishPage(messages, options.publisher, ending);',
    put: 'void publishPage(messages, options.publisher, ending).catch(() => undefined);',
  },
  {
    name: 'relay: it goes on although an event was not stored',
    file: 'event-sourcing/relay.ts',
    find: "if (outcome.status === 'returned')",
    put: "if (outcome.status === 'returned' && ending.aborted)",
  },
  {
    name: 'relay: the next event of an entity is sent before the one ahead of it is confirmed',
    file: 'event-sourcing/relay.ts',
    find: 'before === undefined\n        ? publisher',
    put: 'before === undefined || before !== undefined\n        ? publisher',
  },
  {
    name: 'relay: it ends when the store does not answer',
    file: 'event-sourcing/relay.ts',
    find: 'if (signal.aborted) return;\n      await sleep',
    put: 'if (trouble.isOn || signal.aborted) return;\n      await sleep',
  },
  {
    name: 'replay: the lock is not waited for',
    file: 'dead-letters/letter-broker.ts',
    find: '  const channel = await takeLock(connection, stream, { patienceMs, time });\n',
    put: '  if (patienceMs >= 0) return use();\n  const channel = await takeLock(connection, stream, { patienceMs, time });\n',
  },
  {
    name: 'replay: the lock is kept',
    file: 'dead-letters/letter-broker.ts',
    find: 'await channel.deleteQueue(operatorLockName(stream)).catch(() => undefined);',
    put: '',
  },
  {
    name: 'replay: a page is given back before the one ahead of it is seen in the queue',
    file: 'dead-letters/queue-reading.ts',
    find: 'while (before != null && page.held > 0 && time.nowMs() < deadlineMs) {',
    put: 'while (before != null && page.held < 0 && time.nowMs() < deadlineMs) {',
  },
];
