/**
 * The Kubernetes manifests that ship, as data, and what the schemas of Kubernetes, the Prometheus Operator and KEDA say of
 * them. The schemas' validators look at values; that no field has a name that they do not know is seen by the compiler,
 * which is given each manifest as a literal of its type.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { checkout } from './checkout.ts';

const run = promisify(execFile);
export const kubernetesFolder = join(checkout, 'deploy', 'kubernetes');

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: any;
  readonly data?: Readonly<Record<string, string>>;
}

export function parseManifests(text: string): readonly Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

export function readManifests(path: string): readonly (Manifest & Readonly<Record<string, any>>)[] {
  return parseManifests(readFileSync(join(kubernetesFolder, path), 'utf8'));
}

/** Where the schemas of an API group are. Throws for a group that nobody has schemas of. */
function moduleOf({ apiVersion, kind }: Manifest): string {
  const path = `${apiVersion}/${kind}`;
  if (apiVersion.startsWith('monitoring.coreos.com/')) return `@kubernetes-models/prometheus-operator/${path}`;
  if (apiVersion.startsWith('keda.sh/')) return `@kubernetes-models/keda/${path}`;
  return `kubernetes-models/${path}`;
}

/** What is wrong with the values, manifest by manifest. */
export async function valueProblems(manifests: readonly Manifest[]): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const manifest of manifests) {
    const { [manifest.kind]: Model } = (await import(moduleOf(manifest))) as Record<string, new (data: unknown) => { validate(): void }>;
    if (Model === undefined) throw new Error(`there is no schema of ${manifest.apiVersion} ${manifest.kind}`);
    try {
      new Model(manifest).validate();
    } catch (error) {
      problems.push(`${manifest.kind} ${manifest.metadata.name}: ${(error as Error).message}`);
    }
  }
  return problems;
}

/** What the compiler says: fields that are unknown or of another type. Empty when all is well. */
export async function fieldProblems(manifests: readonly Manifest[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-kubernetes-'));
  try {
    const file = join(folder, 'manifests.ts');
    const lines = manifests.map((manifest, index) => {
      const { kind } = manifest;
      return `import type { I${kind} as T${index} } from '${moduleOf(manifest)}';\nexport const manifest${index}: T${index} = ${JSON.stringify(manifest, null, 1)};\n`;
    });
    writeFileSync(file, lines.join(''));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const paths = {
      'kubernetes-models/*': [`${checkout}node_modules/kubernetes-models/*.d.ts`],
      '@kubernetes-models/*': [`${checkout}node_modules/@kubernetes-models/*.d.ts`],
    };
    const compilerOptions = { strict: true, module: 'nodenext', target: 'es2023', skipLibCheck: true, noEmit: true, types: [], paths };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
    const compiler = join(checkout, 'node_modules', 'typescript', 'bin', 'tsc');
    return await run(process.execPath, [compiler, '-p', folder]).then(
      ({ stdout }) => stdout,
      ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The PrometheusRule that belongs to deploy/prometheus/rules.yml. */
export function renderPrometheusRule(): string {
  const rules = readFileSync(join(checkout, 'deploy', 'prometheus', 'rules.yml'), 'utf8');
  const groups = rules.slice(rules.indexOf('groups:')).replaceAll(/^(?=.)/gm, '  ');
  return [
    '# deploy/prometheus/rules.yml for the Prometheus Operator: `node --import tsx test/support/refresh-readme.ts` makes it.',
    'apiVersion: monitoring.coreos.com/v1',
    'kind: PrometheusRule',
    'metadata:',
    '  name: inorder',
    'spec:',
    groups,
  ].join('\n');
}
