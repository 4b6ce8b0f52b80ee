/**
 * Rewrites the generated blocks of every README, .env.example, the permissions and the rules for Kubernetes:
 * node --import tsx test/support/refresh-readme.ts
 */
import { writeFileSync } from 'node:fs';
import { renderPermissions } from '../../src/cli/permissions.ts';
import { loadConfig } from '../../src/config/load.ts';
import { roleNames } from '../../src/config/permissions.ts';
import { renderEnvExample } from '../../src/config/variables.ts';
import { checkout } from './checkout.ts';
import { renderPrometheusRule } from './kubernetes.ts';
import { generatedBlocks, readReadme, withBlock } from './readme.ts';

for (const [name, { path, render }] of Object.entries(generatedBlocks)) {
  writeFileSync(checkout + path, withBlock(readReadme(path), name, render()));
}
writeFileSync(`${checkout}deploy/permissions/events.sh`, renderPermissions(roleNames, loadConfig({})));
writeFileSync(`${checkout}.env.example`, renderEnvExample());
writeFileSync(`${checkout}deploy/kubernetes/base/prometheusrule.yaml`, renderPrometheusRule());
