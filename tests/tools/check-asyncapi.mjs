// Parses an AsyncAPI document with the official parser; exits with 1 if it has errors or warnings.
//
// Usage: node check-asyncapi.mjs <file>
// Prints one line for each finding; information (a newer version exists, say) is printed too but
// does not fail. Run by tests/schemas.rs.
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';

const severities = ['error', 'warning', 'information', 'hint'];
const [file] = process.argv.slice(2);
if (!file) {
  console.error('usage: node check-asyncapi.mjs <file>');
  process.exit(2);
}

const { document, diagnostics } = await new Parser().parse(await readFile(file, 'utf8'));
for (const { severity, code, message, path } of diagnostics) {
  console.log(`${severities[severity]} ${code} at /${path.join('/')}: ${message}`);
}

const failing = diagnostics.filter(({ severity }) => severity <= severities.indexOf('warning'));
if (!document || failing.length > 0) {
  process.exit(1);
}
const count = (list) => list.all().length;
console.log(
  `${count(document.operations())} operations, ${count(document.channels())} channels, ` +
    `${count(document.messages())} messages`,
);
