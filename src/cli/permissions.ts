/** `inorder permissions`: prints what each role of the stream may do at RabbitMQ and in Redis, as commands that give just that. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { permissionsOf, type RoleName, roleNames } from '../config/permissions.ts';
import { ConfigError } from '../errors.ts';
import { virtualHostOf } from '../rabbitmq/management.ts';
import { closest, defineCommand, flag, jsonOption, stateStoreVariables, userVariables } from './command.ts';

export const command = defineCommand({
  name: 'permissions',
  summary: 'Prints what each role needs at RabbitMQ and in Redis, and no more, as commands that give it.',
  description: [
    `The roles are ${roleNames.join(', ')}; without ROLE all of them. What is printed is a`,
    'shell script, and fits the given configuration: a worker with AUTO_REPLAY, for instance, needs more than one without. It asks neither',
    'broker nor store. The users are made before, each with a password of its own: `rabbitmqctl add_user NAME` asks for it, and in Redis',
    "it is `ACL SETUSER NAME '>PASSWORD'`.",
  ].join('\n'),
  positionals: ['[ROLE]'],
  options: {
    replies: flag('Also what a worker needs to send the results of handlers to the `replyTo` of messages: it may then write to any queue.'),
    json: jsonOption,
  },
  variables: [
    'AMQP_URL',
    ...stateStoreVariables,
    'EVENT_STORE',
    'EVENT_LOG',
    'DURABILITY',
    'AUTO_REPLAY',
    'GAP_REPAIR',
    'READ_TOKEN',
    ...userVariables,
  ],
  async run({ positionals: [word], options: { replies, json } }, io) {
    const chosen = word === undefined ? roleNames : [roleNamed(word)];
    const config = loadConfig(io.env);
    const asLines = () => chosen.map((role) => `${JSON.stringify(permissionsOf(role, config, { replies }))}\n`).join('');
    await io.stdout.write(json ? asLines() : renderPermissions(chosen, config, { replies }));
    return 0;
  },
});

function roleNamed(word: string): RoleName {
  const role = roleNames.find((name) => name === word);
  if (role !== undefined) return role;
  const meant = closest(word, roleNames);
  throw new ConfigError([
    `there is no role ${JSON.stringify(word)}: ${meant === null ? `there are ${roleNames.join(', ')}` : `did you mean ${meant}?`}`,
  ]);
}

/** A shell script. `options` as `permissionsOf` takes them. */
export function renderPermissions(roles: readonly RoleName[], config: Config, options?: { readonly replies: boolean }): string {
  const virtualHost = virtualHostOf(config.broker.urls[0]);
  const all = roles.map((role) => permissionsOf(role, config, options));
  const parts = all.map(({ role, meaning, commands, user, rabbitmq, redis }) => [
    `# ${role}: ${meaning}`,
    `# ${commands.map((name) => `inorder ${name}`).join(', ')}`,
    ...(rabbitmq === null
      ? []
      : [
          line('rabbitmqctl', 'set_permissions', '-p', virtualHost, user, rabbitmq.configure, rabbitmq.write, rabbitmq.read),
          // Without any, too: whoever was an administrator would remain one.
          line('rabbitmqctl', 'set_user_tags', user, ...rabbitmq.tags),
        ]),
    // No password is touched. Redis 6 refuses a rule that it does not know, and all others with it.
    ...(redis === null
      ? []
      : [
          line('redis-cli', 'ACL', 'SETUSER', user, 'on', 'resetkeys', ...redis.keys, 'resetchannels', '-@all', ...redis.commands),
          `# From Redis 7 on, if the user was given selectors: ${line('redis-cli', 'ACL', 'SETUSER', user, 'clearselectors')}`,
        ]),
  ]);
  return `${parts.map((lines) => lines.join('\n')).join('\n\n')}\n`;
}

/** Words of a shell. */
function line(...words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`)).join(' ');
}
