/**
 * Writes the README's generated blocks, .env.example and the rules for Kubernetes anew: node --import tsx test/support/refresh-readme.ts
 */
import { writeFileSync } from 'node:fs';
import { renderEnvExample } from '../../src/config/render.ts';
import { checkout } from './checkout.ts';
import { renderPrometheusRule } from './kubernetes.ts';
import { readmePath, readReadme, withGeneratedBlocks } from './readme.ts';

writeFileSync(readmePath, withGeneratedBlocks(readReadme()));
writeFileSync(`${checkout}.env.example`, renderEnvExample());
writeFileSync(`${checkout}deploy/kubernetes/base/prometheusrule.yaml`, renderPrometheusRule());
