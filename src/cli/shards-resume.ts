/** `inorder shards resume`: ends the halt of shards, once an operator has decided to accept the store as it is. */
import type { ChannelModel } from 'amqplib';
import { loadConfig } from '../config/load.ts';
import { ConfigError, UnavailableError } from '../errors.ts';
import { StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { haltText, lookForHalts } from '../stores/halts.ts';
import type { Halt, Store } from '../stores/store.ts';
import { withBroker, withStore } from './access.ts';
import { brokerVariables, type CommandIo, defineCommand, type ExitCode, storeVariables, value } from './command.ts';
import { audit, confirm, yesOption } from './confirm.ts';

const patienceMs = 5_000;

export const command = defineCommand({
  name: 'shards resume',
  summary: 'Ends the halt of shards: the store is accepted as it is.',
  description: [
    'For shards that are halted because the store went backwards: it lost commits, is an older copy, is empty, or is another one than',
    'the stream had. First prints the causes. It does not bring back lost data: restore the store or correct its entities',
    'before, or their next events find a gap. The workers resume by themselves within seconds; one with another store stays halted.',
    '`inorder audit` shows who ended which halt, and why.',
  ].join('\n'),
  positionals: [],
  options: {
    why: value('TEXT', 'Why, for the audit trail. Required.'),
    yes: yesOption,
  },
  variables: [...brokerVariables, ...storeVariables],
  async run({ options: { why, yes } }, io) {
    if (why === null || why.trim() === '') throw new ConfigError(['--why is missing: say why, for the audit trail']);
    const config = loadConfig(io.env);
    return withStore(config, io, (store) =>
      withBroker(config, io, async (connection): Promise<ExitCode> => {
        const record = recordOf(connection, config.broker.stream, io);
        const known = await record.read();
        if (record.trouble !== null) await io.stderr.write(`inorder: the broker keeps no record of the store: ${record.trouble}\n`);
        const { halts } = await lookForHalts(store, known, io.time);
        if (halts.length === 0) {
          await io.stdout.write('no shard is halted\n');
          return 0;
        }
        await io.stdout.write(halts.map((halt) => `${haltText(halt)} (${halt.at})\n`).join(''));
        if (!(await confirm('Go on with the store as it is?', yes, io))) return 1;
        await resume(store, record, halts, why);
        await io.stdout.write('the shards may go on\n');
        return 0;
      }),
    );
  },
});

export function recordOf(connection: ChannelModel, stream: string, { time }: CommandIo): StreamRecordKeeper {
  return new StreamRecordKeeper({ source: { ready: async () => connection, time }, stream, patienceMs });
}

/** Ends the halts in the store first: the shards stay halted as long as the broker's record says so. */
async function resume(store: Store, record: StreamRecordKeeper, halts: readonly Halt[], reason: string): Promise<void> {
  const known = await record.read();
  const what = `let the shards go on: ${halts.map(haltText).join('; ')}`;
  await audit(store, { action: 'resume', what, reason });
  const { identity, epoch } = await store.operator.resume(known?.epoch ?? 0);
  await record.change((now) =>
    now === null ? null : { generation: now.generation + 1, isOlder: now.isOlder, identity, epoch, halts: [] },
  );
  if (known !== null && record.trouble !== null)
    throw new UnavailableError(`the record at the broker cannot be changed, so that the shards stay halted: ${record.trouble}`);
}
