/**
 * What is fuzzed: everything that reads what others write. Each target says what an input is, where its corpus comes from, and what
 * has to be true of whatever comes out. The functions that are tried are handed in, so that a test can plant a defect in one.
 */
import assert from 'node:assert/strict';
import { type Command, type CommandIo, type ExitCode, parseArguments } from '../../src/cli/command.ts';
import { filterOf, selectionOptions } from '../../src/cli/dead-letters.ts';
import { commands, runCli } from '../../src/cli/run.ts';
import { loadConfig } from '../../src/config/load.ts';
import { variableNames, variables } from '../../src/config/variables.ts';
import { readBrokerDeath } from '../../src/dead-letters/dead-letter.ts';
import { ConfigError, InputError } from '../../src/errors.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { asDelivered, encodeEvent } from '../../src/events/encode.ts';
import { type Decoded, defaultEventLimits, type Event, type RawMessage, type Refusal } from '../../src/events/event.ts';
import type { DecodeOptions } from '../../src/events/validation.ts';
import { traceIdIn } from '../../src/observability/tracing.ts';
import { parseDelimiter } from '../../src/publishing/csv-events.ts';
import { parseFieldMap } from '../../src/publishing/field-map.ts';
import { lineEvents } from '../../src/publishing/line-events.ts';
import { parseRequest, type PublishTexts } from '../../src/publishing/publish-request.ts';
import { inputFormats, readInput, textsOf } from '../../src/publishing/read-input.ts';
import { entityLines } from '../../src/publishing/text-lines.ts';
import { virtualHostOf } from '../../src/rabbitmq/management.ts';
import { describeTarget, parseRedisUrl } from '../../src/stores/redis/redis-url.ts';
import { systemTime } from '../../src/time.ts';
import { fuzzCorpus, type MessageProperties, secret } from './fuzz-corpus.ts';
import { expect, type Input, type Target } from './fuzz-engine.ts';

/** What is tried. */
export const shipped = {
  decodeMessage,
  lineEvents,
  readInput,
  entityLines,
  loadConfig,
  parseRedisUrl,
  parseArguments,
  readBrokerDeath,
  traceIdIn,
};
export type Subjects = typeof shipped;

export const targetNames = ['decoder', 'envelope', 'cloudevents', 'headers', 'ndjson', 'csv', 'urls', 'variables', 'arguments'] as const;
export type TargetName = (typeof targetNames)[number];

export function targetsOf(subjects: Subjects = shipped): Readonly<Record<TargetName, Target>> {
  const message = { takes: 'bytes', maxLength: 20_000, run: (input: Input) => decoded(input, subjects) } as const;
  const file = { takes: 'bytes', maxLength: 4_000, hasLines: true, run: (input: Input) => readFrom(input, subjects) } as const;
  return {
    decoder: { name: 'decoder', ...message, ...fuzzCorpus.decoder },
    envelope: { name: 'envelope', ...message, ...fuzzCorpus.envelope },
    cloudevents: { name: 'cloudevents', ...message, ...fuzzCorpus.cloudevents },
    headers: { name: 'headers', takes: 'bytes', maxLength: 20_000, ...fuzzCorpus.headers, run: (input) => headersRead(input, subjects) },
    ndjson: { name: 'ndjson', ...file, ...fuzzCorpus.ndjson },
    csv: { name: 'csv', ...file, ...fuzzCorpus.csv },
    urls: { name: 'urls', takes: 'text', maxLength: 8_000, ...fuzzCorpus.urls, run: (input) => urlRead(input, subjects) },
    variables: {
      name: 'variables',
      takes: 'text',
      maxLength: 8_000,
      isList: true,
      ...fuzzCorpus.variables,
      run: (input) => configRead(input, subjects),
    },
    arguments: {
      name: 'arguments',
      takes: 'text',
      maxLength: 1_000,
      isList: true,
      ...fuzzCorpus.arguments,
      run: (input) => typed(input, subjects),
    },
  };
}

/** Small, so that they are reached. */
const limits = { ...defaultEventLimits, maxBodyBytes: 16_384, maxHeaderBytes: 2_048, maxEntityIdBytes: 128, maxJsonDepth: 16 };

const utf8 = (bytes: string) => Buffer.from(bytes, 'latin1').toString();

/** Without names in quotes and numbers: what all inputs of a kind have in common. */
function kindOf(sentence: string): string {
  return sentence.replace(/"(?:[^"\\]|\\.)*"|[\d,]+/g, '…').slice(0, 160);
}

function objectIn(json: string): MessageProperties {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** The client assigns each name that a message has to an object, `__proto__` too. */
function assigned(table: unknown): Record<string, unknown> {
  const headers: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(table ?? {}))
    headers[name] = typeof value === 'string' && value.startsWith('bytes:') ? Buffer.from(value) : value;
  return headers;
}

function messageOf([body = '', properties = '']: Input): { readonly message: RawMessage; readonly options: DecodeOptions } {
  const given = objectIn(utf8(properties));
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const message: RawMessage = {
    body: Buffer.from(body, 'latin1'),
    routingKey: text(given.routingKey) ?? '',
    contentType: text(given.contentType),
    contentEncoding: text(given.contentEncoding),
    messageId: text(given.messageId),
    type: text(given.type),
    timestamp: typeof given.timestamp === 'number' ? given.timestamp : undefined,
    replyTo: undefined,
    correlationId: undefined,
    headers: assigned(given.headers),
  };
  const unsequenced = given.unsequenced === 'process' ? 'process' : 'reject';
  return { message, options: { limits: { ...limits, firstSequence: given.first === 0 ? 0 : 1 }, defaultEntityType: 'order', unsequenced } };
}

const decoderReasons: ReadonlySet<string> = new Set([
  'malformed',
  'too_large',
  'unsupported',
  'invalid_entity',
  'invalid_sequence',
  'misrouted',
]);
const controlCharacter = /\p{Cc}/u;
/** Others are escaped where something is printed; these would make two lines of one before that. */
const lineEnd = /[\0-\x1f]/;

function decoded(input: Input, { decodeMessage: decode }: Subjects): string {
  const { message, options } = messageOf(input);
  const result = decode(message, options);
  if (!result.ok) {
    expectRefusal(result.refusal);
    return kindOf(`${result.refusal.reason}: ${result.refusal.detail}`);
  }
  expectEvent(result.event, message, options);
  return `${roundTrip(result.event, options, decode)}${result.event.idDerived} ${result.event.sequence === null} ${result.event.timestampMs === null}`;
}

function expectRefusal({ reason, detail, id, entityType, entityId, sequence, type }: Refusal): void {
  expect(decoderReasons.has(reason), () => `${reason} is no reason of the decoder`);
  expect(
    detail !== '' && detail.length <= 1_000 && !lineEnd.test(detail),
    () => `the detail is not one short line: ${JSON.stringify(detail)}`,
  );
  for (const name of [entityType, entityId]) expect(name === null || isName(name), () => `a refusal names ${JSON.stringify(name)}`);
  for (const text of [id, type]) expect(text === null || typeof text === 'string', () => `a refusal has ${typeof text} as a name`);
  expect(sequence === null || Number.isSafeInteger(sequence), () => `a refusal has the sequence ${sequence}`);
}

function isName(name: unknown): boolean {
  return typeof name === 'string' && name !== '' && Buffer.byteLength(name) <= limits.maxEntityIdBytes && !controlCharacter.test(name);
}

function expectEvent(event: Event, { routingKey }: RawMessage, { limits: { firstSequence }, unsequenced }: DecodeOptions): void {
  const { id, entityType, entityId, sequence, type, timestamp, timestampMs, data, dataJson, metadata, payloadHash } = event;
  for (const name of [id, entityType, entityId, type])
    expect(isName(name), () => `an event is accepted with the name ${JSON.stringify(name)}`);
  expect(
    entityId === routingKey || (unsequenced === 'process' && entityId === id && sequence === null),
    () => 'an event is accepted with another routing key',
  );
  expect(
    sequence === null || (Number.isSafeInteger(sequence) && sequence >= firstSequence && !Object.is(sequence, -0)),
    () => `an event is accepted with the sequence ${sequence}`,
  );
  expect((timestamp === null) === (timestampMs === null), () => `the time ${timestamp} is read as ${timestampMs}`);
  expect(timestampMs === null || Number.isSafeInteger(Math.round(timestampMs)), () => `the time ${timestamp} is read as ${timestampMs}`);
  expect(/^[\w-]{16}$/.test(payloadHash), () => `a payload hash is ${payloadHash}`);
  assert.deepEqual(JSON.parse(dataJson), data, 'the text of data says something else than data');
  for (const value of [metadata, data]) expect(!hasForeignPrototype(value, 0), () => 'an object of an event inherits what a message said');
}

/** JSON makes objects and arrays, and `__proto__` is a name like any other. */
function hasForeignPrototype(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null || depth > 100) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== Array.prototype && prototype !== null) return true;
  return Object.values(value).some((inner) => hasForeignPrototype(inner, depth + 1));
}

/** An accepted event, written down again, is the same event. Returns what of it cannot be written as an envelope. */
function roundTrip(event: Event, options: DecodeOptions, decode: typeof decodeMessage): string {
  const { id, entityType, entityId, sequence, type, timestamp, dataJson, metadata } = event;
  const isAlone = sequence === null && entityId === id;
  const fields = {
    id,
    entityType,
    ...(isAlone ? {} : { entityId }),
    sequence: sequence ?? undefined,
    type,
    timestamp: timestamp ?? undefined,
  };
  const widest = { ...options.limits, maxBodyBytes: 10 * limits.maxBodyBytes, maxJsonDepth: 2 * limits.maxJsonDepth };
  const encoded = encodeEvent({ ...fields, dataJson, metadata }, { limits: widest, unsequenced: 'process' });
  const again = decode(asDelivered(encoded), { ...options, limits: widest, unsequenced: 'process' });
  expect(again.ok, () => `an event is refused once it is written down again: ${again.ok ? '' : again.refusal.detail}`);
  const { idDerived: _, payloadHash, ...kept } = again.event;
  const { idDerived: __, payloadHash: before, ...given } = event;
  assert.deepEqual(kept, given, 'an event is another one once it is written down again');
  expect(payloadHash === before, () => 'an event has another payload hash once it is written down again');
  return 'event ';
}

function headersRead(input: Input, subjects: Subjects): string {
  const { message, options } = messageOf(input);
  const outcome = decoded(input, subjects);
  const own = { ...message, headers: Object.assign(Object.create(null) as object, message.headers) as RawMessage['headers'] };
  const fieldsOf = (result: Decoded) => JSON.stringify(result);
  const alike = fieldsOf(subjects.decodeMessage(message, options)) === fieldsOf(subjects.decodeMessage(own, options));
  expect(alike, () => 'what the headers inherit is read as theirs');
  const death = subjects.readBrokerDeath(message.headers);
  expect(['delivery_limit', 'expired', 'maxlen', 'unknown'].includes(death.reason), () => `a death has the reason ${death.reason}`);
  expect(death.at === null || /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(death.at), () => `a death is at ${death.at}`);
  const trace = subjects.traceIdIn(message.headers);
  expect(trace === undefined || /^(?!0{32})[0-9a-f]{32}$/.test(trace), () => `a trace id is ${trace}`);
  return `${outcome} ${death.reason} ${death.queue === null} ${death.at === null} ${trace === undefined}`;
}

interface Reading {
  readonly format?: unknown;
  readonly map?: unknown;
  readonly delimiter?: unknown;
  readonly sequences?: unknown;
  readonly unsequenced?: unknown;
  readonly entities?: unknown;
  readonly chunk?: unknown;
}

interface Read {
  readonly events: readonly string[];
  readonly problems: readonly string[];
}

async function* piecesOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** A file, whole and in pieces: where a piece ends changes nothing. */
async function readFrom([options = '', content = '']: Input, subjects: Subjects): Promise<string> {
  const reading = objectIn(utf8(options)) as Reading;
  const bytes = Buffer.from(content, 'latin1');
  const whole = await readOnce([content], reading, piecesOf(bytes, Math.max(1, bytes.length)), subjects);
  const { chunk } = reading;
  if (typeof chunk === 'number' && chunk >= 1 && bytes.length / chunk <= 200) {
    const pieces = await readOnce([content], reading, piecesOf(bytes, Math.floor(chunk)), subjects);
    expect(JSON.stringify(pieces) === JSON.stringify(whole), () => 'a file in pieces is read otherwise than whole');
  }
  return `${Math.min(whole.events.length, 2)} ${kindOf(whole.problems[0] ?? '')}`;
}

async function readOnce(input: Input, reading: Reading, bytes: AsyncGenerator<Uint8Array>, subjects: Subjects): Promise<Read> {
  const [events, problems]: [string[], string[]] = [[], []];
  const onProblem = (line: number, problem: string) => {
    expect(Number.isSafeInteger(line) && line >= 1, () => `a problem is on line ${line}`);
    expectSentence(problem, input);
    problems.push(`${line}: ${problem}`);
  };
  const unsequenced = reading.unsequenced === 'process' ? 'process' : 'reject';
  try {
    const map = typeof reading.map === 'string' ? parseFieldMap(reading.map) : new Map();
    const delimiter = typeof reading.delimiter === 'string' ? parseDelimiter(reading.delimiter) : null;
    const request = { format: inputFormats.find((format) => format === reading.format) ?? 'ndjson', map, delimiter };
    const texts = await subjects.readInput({ name: 'input', bytes, isStopped: () => false, close: () => undefined } as never, request);
    if (reading.entities === true) {
      const wanted = {
        defaultEntityType: 'order',
        maxDepth: limits.maxJsonDepth,
        maxIdBytes: limits.maxEntityIdBytes,
        firstSequence: 1,
      } as const;
      for await (const { entityId, entityType, version, state } of subjects.entityLines(texts, { ...wanted, onProblem })) {
        expect(
          isName(entityId) && isName(entityType) && version >= 1,
          () => `an entity is accepted as ${JSON.stringify([entityType, entityId, version])}`,
        );
        if (state !== null) JSON.parse(state);
        events.push(`${entityType} ${entityId} ${version} ${state}`);
      }
    } else {
      const sequences = reading.sequences === 'number' ? 'number' : 'as-given';
      const line = { limits, defaultEntityType: 'order', entityType: null, sequences, unsequenced, onProblem } as const;
      for await (const encoded of subjects.lineEvents(texts, { ...line, ...textsOf(request) })) {
        const again = subjects.decodeMessage(asDelivered(encoded), { limits, defaultEntityType: 'order', unsequenced });
        expect(again.ok && again.event.payloadHash === encoded.event.payloadHash, () => 'a worker reads another event than was published');
        events.push(`${encoded.event.id} ${encoded.event.entityId} ${encoded.event.sequence} ${encoded.body.toString()}`);
      }
    }
  } catch (error) {
    if (!(error instanceof ConfigError) && !(error instanceof InputError)) throw error;
    for (const problem of error instanceof ConfigError ? error.problems : [error.message]) expectSentence(problem, input);
    problems.push(error.message);
  }
  return { events, problems };
}

/** What is told of an input is one line, and not much longer than what it is about. */
function expectLine(problem: string, input: Input): void {
  expect(!lineEnd.test(problem), () => `a problem has a control character: ${JSON.stringify(problem.slice(0, 200))}`);
  expectSentence(problem, input);
}

/** Names of columns stand as they are in the `--map` that is proposed; who prints it escapes them. */
function expectSentence(problem: string, input: Input): void {
  const most = 4_000 + 3 * input.reduce((sum, part) => sum + part.length, 0);
  expect(problem !== '' && problem.length <= most, () => `a problem has ${problem.length} characters`);
}

/** A password that is where a password belongs, and nowhere else, is told to nobody. */
const holdsSecret = new RegExp(`^(?!.*${secret}.*${secret}).*://[^/?#@,]*:[^/?#@,]*${secret}[^/?#@,]*@`, 's');

function urlRead([name = '', url = '']: Input, subjects: Subjects): string {
  const known = (['AMQP_URL', 'REDIS_URL', 'DATABASE_URL', 'MANAGEMENT_URL'] as const).find((one) => one === name) ?? 'AMQP_URL';
  let outcome = '';
  try {
    const { broker, store } = subjects.loadConfig({ [known]: url });
    for (const one of broker.urls) expect(virtualHostOf(one) !== '', () => `${JSON.stringify(one)} has no virtual host`);
    if (known === 'REDIS_URL') {
      const target = subjects.parseRedisUrl(store.redisUrl);
      for (const { host, port } of target.nodes) expect(host !== '' && port >= 1 && port <= 65_535, () => `a node is ${host}:${port}`);
      expect(!holdsSecret.test(url) || !describeTarget(target).includes(secret), () => 'a description tells the password');
    }
    outcome = `${known} ${new URL(broker.urls[0]).protocol}`;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) expectLine(problem, [url]);
    expect(!holdsSecret.test(url) || !error.message.includes(secret), () => `a problem tells the password: ${error.message}`);
    outcome = kindOf(error.message);
  }
  try {
    subjects.parseRedisUrl(url);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(!error.message.includes(secret) || !holdsSecret.test(url), () => `a problem tells the password: ${error.message}`);
  }
  return outcome;
}

function configRead(input: Input, { loadConfig: load }: Subjects): string {
  const env: Record<string, string> = {};
  for (const [name, value] of input.map(assignment)) Object.defineProperty(env, name, { value, enumerable: true, configurable: true });
  // A path may lead to anything.
  for (const name of Object.keys(env)) if (/FILE/.test(name) && !env[name]!.startsWith('/nowhere/')) delete env[name];
  try {
    const config = load(env);
    expect(Object.isFrozen(config) && Object.isFrozen(config.broker), () => 'a configuration can be changed');
    const { broker, ordering, processing } = config;
    for (const count of [broker.shards, broker.prefetch, ordering.maxHeld, ordering.gapTimeoutMs, processing.retryMaxAttempts])
      expect(Number.isSafeInteger(count) && count >= 1, () => `a limit is ${count}`);
    expect(
      broker.workerShards.length > 0 && broker.workerShards.every((shard) => shard < broker.shards),
      () => 'a worker has shards that are none',
    );
    expect(ordering.maxHeld < broker.prefetch || broker.prefetch === 1, () => `${ordering.maxHeld} of ${broker.prefetch} may be held`);
    return `config ${config.warnings.length} ${config.store.kind} ${ordering.strategy}`;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.problems.length > 0, () => 'a configuration is refused without a problem');
    for (const problem of error.problems) {
      expectLine(problem, input);
      const names = [...Object.keys(env), ...variableNames];
      expect(
        names.some((name) => problem.includes(/^\w+$/.test(name) ? name : '"')),
        () => `a problem names no variable: ${problem}`,
      );
    }
    for (const name of variableNames)
      expect(!variables[name].secret || env[name] !== secret || !error.message.includes(secret), () => `a problem tells ${name}`);
    return kindOf(error.problems[0] ?? '');
  }
}

function assignment(line: string): readonly [name: string, value: string] {
  const at = line.indexOf('=');
  return at === -1 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)];
}

/** A command line, as far as its command begins: what it would be given is checked, and of some what they make of it. */
async function typed(words: Input, { parseArguments: parse }: Subjects): Promise<string> {
  let [stdout, stderr, began] = ['', '', ''];
  const output = (write: (text: string) => void) => ({
    trouble: null,
    write: async (text: string) => {
      write(text);
      return true;
    },
  });
  const io = {
    env: {},
    time: systemTime,
    onCrash: () => undefined,
    stdout: output((text) => void (stdout += text)),
    stderr: output((text) => void (stderr += text)),
  };
  const begun = async (command: Command, args: ReturnType<typeof parseArguments>): Promise<ExitCode> => {
    began = command.name;
    expectArguments(command, args!);
    readFurther(command.name, args!);
    return 0;
  };
  const traced = commands.map((command) => ({ ...command, run: (args: never) => begun(command, args) }));
  const code = await runCli({ commands: traced, version: '0' }, words, io as unknown as CommandIo);
  expect(code === 0 || code === 2, () => `the exit code is ${code}: ${stderr}`);
  expect(
    words.length === 0 || (code === 2) === (stderr !== ''),
    () => `the exit code is ${code}, with ${JSON.stringify(stderr)} on standard error`,
  );
  for (const line of words.length === 0 ? [] : stderr.split('\n').slice(0, -1)) {
    expect(line.startsWith('inorder: '), () => `standard error has the line ${JSON.stringify(line)}`);
    expectLine(line, words);
  }
  const command = commands.find(({ name }) => name === began);
  if (command !== undefined) expectArguments(command, parse(command, words.slice(command.name.split(' ').length))!);
  return kindOf(`${code} ${began} ${stderr}`);
}

function expectArguments(command: Command, { positionals, options }: NonNullable<ReturnType<typeof parseArguments>>): void {
  expect(positionals.length <= command.positionals.length, () => `${command.name} is given ${positionals.length} words`);
  expect(
    Object.keys(options).sort().join() === Object.keys(command.options).sort().join(),
    () => `${command.name} is given ${Object.keys(options).join()}`,
  );
  for (const [name, { kind }] of Object.entries(command.options)) {
    const value: unknown = options[name];
    const isRight = kind === 'flag' ? typeof value === 'boolean' : value === null || typeof value === 'string';
    expect(isRight, () => `--${name} of ${command.name} is ${JSON.stringify(value)}`);
  }
}

/** The options that are languages of their own. */
function readFurther(command: string, { positionals, options }: NonNullable<ReturnType<typeof parseArguments>>): void {
  if (command === 'publish') {
    const request = parseRequest(positionals[0] ?? '-', options as unknown as PublishTexts);
    expect(request.duplicate >= 0 && request.drop <= 1 && request.window >= 0, () => `a publish is ${JSON.stringify(request)}`);
  } else if (Object.keys(selectionOptions).every((name) => name in options)) {
    const { sinceMs } = filterOf(options as unknown as Parameters<typeof filterOf>[0], systemTime);
    expect(sinceMs === undefined || Number.isFinite(sinceMs), () => `--since is ${sinceMs}`);
  }
}
