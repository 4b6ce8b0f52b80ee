/**
 * Makes the configuration from the environment, or reports all its problems at once. Guarantees
 * that the configuration is complete and consistent; that white space around a value is ignored, and an
 * empty variable counts as unset; that no message contains a secret. It reads only the files that variables name:
 * whether broker, store and processor are available shows when they are used.
 */
import { ConfigError } from '../errors.ts';
import { type TlsFiles, tlsProblems, tlsVariables } from '../tls.ts';
import { type Config, heldShare, type HttpConfig, type NamedToken } from './config.ts';
import { blemishOf, quoted, readGiven, trimmed, nearMiss } from './given-text.ts';
import { redisFormOf, type ValueKind } from './parsers.ts';
import { consumerTimeoutMs, isVariableName, variableNames, variables } from './variables.ts';
import { readTokens } from './tokens-file.ts';
import type { Values, VariableName } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws ConfigError with all problems, each naming the variable, its value and what it must be. */
export function loadConfig(env: Environment): Config {
  const problems: string[] = [];
  const given = readTexts(env, problems);
  const values = parse(given, problems);
  refuseUnknown(env, problems);
  // Consistency is checked only if every single value is valid.
  if (problems.length === 0) checkTogether(values, given, problems);
  const { TOKENS_FILE: path } = values;
  const tokens = path === null ? [] : readTokens(path, httpOf(values, []), problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return arrange(values, given, tokens, warningsOf(values));
}

type Texts = ReadonlyMap<VariableName, string>;

/** The set variables, with the contents of `_FILE` files. */
function readTexts(env: Environment, problems: string[]): Texts {
  const texts = new Map<VariableName, string>();
  for (const name of variableNames) {
    const direct = trimmed(env[name] ?? '');
    const path = variables[name].secret ? trimmed(env[`${name}_FILE`] ?? '') : '';
    if (direct !== '' && path !== '') problems.push(`${name} and ${name}_FILE are both set: set one of them`);
    else if (direct !== '') texts.set(name, direct);
    else if (path !== '') {
      const text = readGiven(`${name}_FILE`, path, problems);
      if (text !== null) texts.set(name, text);
    }
  }
  return texts;
}

function parse(given: Texts, problems: string[]): Values {
  const values: Partial<Record<VariableName, unknown>> = {};
  for (const name of variableNames) {
    const { defaultText, kind, secret } = variables[name];
    const text = given.get(name) ?? defaultText;
    const blemish = text === null ? null : (blemishOf(text) ?? (kind as ValueKind<unknown>).flaw?.(text) ?? null);
    const value = text === null || blemish !== null ? null : kind.parse(text);
    values[name] = value;
    if (text !== null && value === null) problems.push(refusal(name, secret, text, blemish ?? `it must be ${kind.allowed}`));
  }
  return values as Values;
}

function refusal(name: VariableName, secret: boolean, text: string, why: string): string {
  return secret ? `${name}: its value is not shown; ${why}` : `${name} is ${quoted(text)}: ${why}`;
}

function refuseUnknown(env: Environment, problems: string[]): void {
  const known = variableNames.flatMap((name) => (variables[name].secret ? [name, `${name}_FILE`] : [name]));
  for (const name of Object.keys(env).sort()) {
    if (trimmed(env[name] ?? '') === '') continue;
    const stem = name.endsWith('_FILE') ? name.slice(0, -'_FILE'.length) : null;
    if (stem !== null && isVariableName(stem) && !variables[stem].secret) {
      problems.push(`${name} is set, but ${stem} cannot be given as a file: set ${stem}`);
      continue;
    }
    const meant = nearMiss(name, known);
    if (meant !== null) problems.push(`${shownName(name)} is not a variable of Inorder: did you mean ${meant}?`);
  }
}

/** Checks of several variables together; only values that were set can conflict, defaults adapt. */
function checkTogether(values: Values, given: Texts, problems: string[]): void {
  const { SHARDS: shards, WORKER_SHARDS: chosen, PREFETCH: prefetch, MAX_BUFFERED_PER_ENTITY: window } = values;
  if (chosen !== 'all') {
    const missing = chosen.filter((shard) => shard >= shards);
    if (missing.length > 0) {
      problems.push(`WORKER_SHARDS names ${missing.join(', ')}: with SHARDS ${shards} there are shards 0 to ${shards - 1}`);
    }
  }
  if (given.has('MAX_BUFFERED_PER_ENTITY') && prefetch < window) {
    problems.push(
      `PREFETCH is ${prefetch}, below the window MAX_BUFFERED_PER_ENTITY of ${window}: so many are never delivered; raise one or lower the other`,
    );
  }
  if (values.RETRY_MAX_MS < values.RETRY_INITIAL_MS) {
    problems.push(`RETRY_MAX_MS is ${values.RETRY_MAX_MS}: it must be at least RETRY_INITIAL_MS, ${values.RETRY_INITIAL_MS}`);
  }
  for (const name of ['STATE_STORE', 'EVENT_STORE'] as const) {
    if (values[name] === 'postgres' && values.DATABASE_URL === null)
      problems.push(`${name} is \`postgres\`, and DATABASE_URL is not set: set it`);
  }
  problems.push(...durabilityProblems(values), ...externalProblems(values), ...tlsProblemsOf(values), ...userProblems(values));
  if (values.GAP_REPAIR === 'event-store' && values.FIRST_SEQUENCE === 0) {
    problems.push(
      'GAP_REPAIR is `event-store` and FIRST_SEQUENCE is 0: the event store counts from 1; set FIRST_SEQUENCE=1, or let GAP_REPAIR name a module',
    );
  }
  if (values.GAP_REPAIR !== 'off' && given.has('GAP_REPAIR_AFTER_MS') && values.GAP_REPAIR_AFTER_MS >= values.GAP_TIMEOUT_MS) {
    problems.push(
      `GAP_REPAIR_AFTER_MS is ${values.GAP_REPAIR_AFTER_MS}: it must be less than GAP_TIMEOUT_MS, ${values.GAP_TIMEOUT_MS}, or it would come too late`,
    );
  }
  const longestMs = longestRetryMs(values);
  if (longestMs >= consumerTimeoutMs) {
    problems.push(
      `RETRY_MAX_ATTEMPTS, HANDLER_TIMEOUT_MS and RETRY_MAX_MS let one event take ${Math.ceil(longestMs / 60_000)} minutes: ` +
        'it must be less than the 30 minutes of consumer_timeout; lower one of them',
    );
  }
}

function durabilityProblems({ DURABILITY: durability, STATE_STORE: states, REDIS_URL: url }: Values): string[] {
  if (durability.kind === 'none') return [];
  if (states === 'postgres') {
    return [
      'DURABILITY is for Redis: PostgreSQL has on disk what it has committed (synchronous_commit); to wait for standbys set synchronous_standby_names there',
    ];
  }
  return redisFormOf(url) === 'cluster'
    ? ['DURABILITY is for one Redis or one behind sentinels, and REDIS_URL names a cluster: no WAIT speaks for all of its nodes']
    : [];
}

/** The certificate says who this is; a password beside it would be meant for something that does not happen. */
function externalProblems({ AMQP_AUTH: auth, AMQP_URL: urls, AMQP_TLS_CERT_FILE: certificate }: Values): string[] {
  if (auth === 'plain') return [];
  const clear = urls.some((url) => !url.startsWith('amqps:'));
  const named = urls.some((url) => new URL(url).username !== '' || new URL(url).password !== '');
  return [
    ...(certificate === null ? ['AMQP_AUTH is `external`, and AMQP_TLS_CERT_FILE is not set: name the certificate and its key'] : []),
    ...(clear ? ['AMQP_AUTH is `external`, and AMQP_URL is without TLS: let it begin with amqps'] : []),
    ...(named ? ['AMQP_AUTH is `external`, and AMQP_URL has a user or a password: remove them, the certificate says who this is'] : []),
  ];
}

function tlsOf(service: 'AMQP' | 'REDIS', values: Values): TlsFiles {
  const { caFile, certFile, keyFile, serverName } = tlsVariables[service];
  return { caFile: values[caFile], certFile: values[certFile], keyFile: values[keyFile], serverName: values[serverName] };
}

function tlsProblemsOf(values: Values): string[] {
  const managed = values.MANAGEMENT_URL?.startsWith('https:') ?? false;
  const hasTls = { AMQP: managed || values.AMQP_URL[0].startsWith('amqps:'), REDIS: values.REDIS_URL.startsWith('rediss') };
  return (['AMQP', 'REDIS'] as const).flatMap((service) => {
    const names = tlsVariables[service];
    const set = Object.values(names).filter((name) => values[name] !== null);
    if (set.length === 0 || hasTls[service]) return tlsProblems(tlsOf(service, values), names);
    const scheme = service.toLowerCase();
    return [`${set[0]} is set, and ${service}_URL begins with ${scheme}, which is without TLS: let it begin with ${scheme}s, or unset it`];
  });
}

function userProblems(values: Values): string[] {
  const { READ_TOKEN: readToken, ADMIN_TOKEN: adminToken, TRUSTED_USER_HEADER: header, TRUSTED_PROXIES: proxies } = values;
  return [
    ...(readToken !== null && readToken === adminToken
      ? ['READ_TOKEN is the same as ADMIN_TOKEN: make another one for those who only read']
      : []),
    ...(header !== null && proxies === null
      ? ['TRUSTED_USER_HEADER is set, and TRUSTED_PROXIES is not: name the addresses it is believed from']
      : []),
    ...(header === null && (proxies !== null || values.TRUSTED_OPERATORS !== null)
      ? ['TRUSTED_PROXIES or TRUSTED_OPERATORS is set, and TRUSTED_USER_HEADER is not: name the header with the user']
      : []),
  ];
}

/** The longest time of all attempts at one event. */
function longestRetryMs(values: Values): number {
  let totalMs = values.HANDLER_TIMEOUT_MS;
  for (let attempt = 1; attempt < values.RETRY_MAX_ATTEMPTS; attempt++) {
    totalMs += Math.min(values.RETRY_MAX_MS, values.RETRY_INITIAL_MS * 2 ** (attempt - 1)) + values.HANDLER_TIMEOUT_MS;
  }
  return totalMs;
}

function warningsOf(values: Values): string[] {
  const { AMQP_URL: urls, MANAGEMENT_URL: managed, DATABASE_URL: url, STATE_STORE: states, EVENT_STORE: events } = values;
  const unused = url !== null && states !== 'postgres' && events === 'redis';
  const isFar = managed?.startsWith('http:') && !/^(localhost|127\..*|\[::1\])$/.test(new URL(managed).hostname);
  const isClear = isFar && urls[0].startsWith('amqps:');
  return [
    ...(unused ? ['DATABASE_URL is set and not used: STATE_STORE and EVENT_STORE are `redis`'] : []),
    ...(isClear ? ['MANAGEMENT_URL sends its password in clear, and AMQP_URL has TLS: let it begin with https'] : []),
  ];
}

function arrange(values: Values, given: Texts, tokens: readonly NamedToken[], warnings: readonly string[]): Config {
  const { PREFETCH: prefetch, MAX_BUFFERED_PER_ENTITY: window, WORKER_SHARDS: chosen, GAP_REPAIR_AFTER_MS: afterMs } = values;
  return deepFreeze({
    serviceName: values.SERVICE_NAME,
    logLevel: values.LOG_LEVEL,
    broker: {
      urls: values.AMQP_URL,
      auth: values.AMQP_AUTH,
      tls: tlsOf('AMQP', values),
      managementUrl: values.MANAGEMENT_URL,
      stream: values.STREAM,
      exchangeType: values.EXCHANGE_TYPE,
      queueType: values.QUEUE_TYPE,
      shards: values.SHARDS,
      workerShards: chosen === 'all' ? Array.from({ length: values.SHARDS }, (_, shard) => shard) : chosen,
      share: values.WORKER_ORDINAL === null ? null : { ordinal: values.WORKER_ORDINAL, replicas: values.WORKER_REPLICAS },
      prefetch,
      topology: values.TOPOLOGY,
    },
    store: {
      kind: values.STATE_STORE,
      redisUrl: values.REDIS_URL,
      redisTls: tlsOf('REDIS', values),
      databaseUrl: values.DATABASE_URL ?? '',
      idempotencyTtlSeconds: values.IDEMPOTENCY_TTL_SECONDS,
      eventLog: values.EVENT_LOG,
      durability: values.DURABILITY,
    },
    eventStore: { kind: values.EVENT_STORE ?? (values.DATABASE_URL === null ? 'redis' : 'postgres') },
    ordering: {
      strategy: values.ORDERING_VIOLATION_STRATEGY,
      gapTimeoutMs: values.GAP_TIMEOUT_MS,
      gapTimeoutAction: values.GAP_TIMEOUT_ACTION,
      maxHeldPerEntity: given.has('MAX_BUFFERED_PER_ENTITY') ? window : Math.min(window, prefetch),
      maxHeld: Math.floor(prefetch * heldShare),
      firstSequence: values.FIRST_SEQUENCE,
      unsequenced: values.UNSEQUENCED,
    },
    processing: {
      processor: values.PROCESSOR,
      entityType: values.ENTITY_TYPE,
      retryMaxAttempts: values.RETRY_MAX_ATTEMPTS,
      retryInitialMs: values.RETRY_INITIAL_MS,
      retryMaxMs: values.RETRY_MAX_MS,
      handlerTimeoutMs: values.HANDLER_TIMEOUT_MS,
      isolation: values.PROCESSOR_ISOLATION,
      replyQueues: values.REPLY_QUEUES,
      autoReplay: values.AUTO_REPLAY,
    },
    gapRepair: {
      source: values.GAP_REPAIR === 'off' ? null : values.GAP_REPAIR,
      afterMs: given.has('GAP_REPAIR_AFTER_MS') ? afterMs : Math.min(afterMs, Math.ceil(values.GAP_TIMEOUT_MS / 2)),
    },
    limits: {
      maxBodyBytes: values.MAX_BODY_BYTES,
      maxEntityIdBytes: values.MAX_ENTITY_ID_BYTES,
      maxHeaderBytes: values.MAX_HEADER_BYTES,
      maxJsonDepth: values.MAX_JSON_DEPTH,
      firstSequence: values.FIRST_SEQUENCE === 0 ? 0 : 1,
      maxStateBytes: values.MAX_STATE_BYTES,
      memoryBudgetBytes: values.MEMORY_BUDGET_MIB * 1_048_576,
    },
    http: httpOf(values, tokens),
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_MS,
    warnings,
  });
}

function httpOf(values: Values, tokens: readonly NamedToken[]): HttpConfig {
  const { TRUSTED_USER_HEADER: header, TRUSTED_PROXIES: addresses, TRUSTED_OPERATORS: operators } = values;
  return {
    host: values.HTTP_HOST,
    port: values.HTTP_PORT,
    adminToken: values.ADMIN_TOKEN,
    readToken: values.READ_TOKEN,
    tokens,
    tokensFile: values.TOKENS_FILE,
    proxy: header === null || addresses === null ? null : { header, addresses, operators: operators ?? [] },
  };
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}

/** As it is typed; in quotes if its problem would otherwise be invisible. */
function shownName(name: string): string {
  return /^\w+$/.test(name) ? name : quoted(name);
}
