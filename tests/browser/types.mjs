// Writes api.d.ts from docs/openapi.json: one type for each schema, under its name there, with its words, and what each path
// takes and answers. `npm run types` writes it, `npm run check` tells when it is not what the document says. Knows the parts of
// JSON Schema that the document uses and stops at any other.

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { format, resolveConfig } from "prettier";

/**
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {string} [const]
 * @property {Schema[]} [oneOf]
 * @property {Schema[]} [anyOf]
 * @property {string | string[]} [type]
 * @property {Schema} [items]
 * @property {Schema[]} [prefixItems]
 * @property {Record<string, Schema>} [properties]
 * @property {string[]} [required]
 * @property {boolean | Schema} [additionalProperties]
 * @property {unknown} [default]
 * @property {string} [description]
 */

/** @typedef {{ content?: Record<string, { schema: Schema }> }} Content */

/**
 * @typedef {object} Operation
 * @property {string} summary
 * @property {{ name: string, required?: boolean }[]} parameters
 * @property {Content} [requestBody]
 * @property {Record<string, Content>} responses
 */

/** What narrows a value and no type of TypeScript says. */
const UNTYPED = ["format", "minimum", "maximum", "minItems", "maxItems"];
const TYPED = ["$ref", "const", "oneOf", "anyOf", "type", "items", "prefixItems", "properties", "required"];
const KNOWN = new Set([...TYPED, ...UNTYPED, "additionalProperties", "default", "description"]);
const PRIMITIVES = new Map(
  Object.entries({ integer: "number", number: "number", string: "string", boolean: "boolean" }),
);

/** @param {Schema} schema @returns {string} */
function typeOf(schema) {
  const unknown = Object.keys(schema).filter((key) => !KNOWN.has(key));
  if (unknown.length > 0) throw new Error(`${unknown} of ${JSON.stringify(schema)}: types.mjs does not know it`);
  if (schema.$ref) return schema.$ref.replace("#/components/schemas/", "");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const { oneOf, anyOf, ...rest } = schema;
  const either = oneOf ?? anyOf;
  if (either) return `(${either.map(typeOf).join(" | ")})${rest.properties ? ` & ${objectOf(rest)}` : ""}`;
  return (
    [schema.type ?? []]
      .flat()
      .map((type) => ofType(type, schema))
      .join(" | ") || "unknown"
  );
}

/**
 * @param {string} type
 * @param {Schema} schema
 */
function ofType(type, schema) {
  if (type === "object") return objectOf(schema);
  if (type === "array" && schema.prefixItems) return `[${schema.prefixItems.map(typeOf).join(", ")}]`;
  if (type === "array") return `(${typeOf(schema.items ?? {})})[]`;
  return PRIMITIVES.get(type) ?? type;
}

/**
 * What has a default is in every answer. Only bodies, which refuse what they do not know, may lack it.
 * @param {Schema} schema
 */
function objectOf({ properties, required = [], additionalProperties: more }) {
  if (!properties) return `Record<string, ${typeof more === "object" ? typeOf(more) : "unknown"}>`;
  const fields = Object.entries(properties).map(([name, field]) => {
    const isThere = required.includes(name) || (field.default !== undefined && more !== false);
    return `${words(field)}${name}${isThere ? "" : "?"}: ${typeOf(field)};`;
  });
  return `{\n${fields.join("\n")}\n}`;
}

/** @param {Schema} schema */
function words({ description }) {
  if (!description) return "";
  return description.includes("\n")
    ? `/**\n * ${description.replaceAll("\n", "\n * ")}\n */\n`
    : `/** ${description} */\n`;
}

/**
 * @param {string} key
 * @param {Operation} operation
 */
function callOf(key, { summary, parameters, requestBody, responses }) {
  const values = parameters.map(({ name, required }) => `${name}${required ? ": string" : "?: Value"};`).join(" ");
  const [body, answer] = [requestBody, responses[200]].map((one) => one?.content?.["application/json"]?.schema);
  const types = `body: ${body ? typeOf(body) : "undefined"}; answer: ${answer ? typeOf(answer) : "unknown"};`;
  return `${words({ description: summary })}${JSON.stringify(key)}: { values: ${values ? `{ ${values} }` : "Record<string, never>"}; ${types} };`;
}

/** @param {string} document @param {string} target */
async function typesOf(document, target) {
  /** @type {{ paths: Record<string, Record<string, Operation>>, components: { schemas: Record<string, Schema> } }} */
  const { paths, components } = JSON.parse(document);
  const calls = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => callOf(`${method.toUpperCase()} ${path}`, operation)),
  );
  const types = Object.entries(components.schemas).map(
    ([name, schema]) => `${words(schema)}export type ${name} = ${typeOf(schema)};`,
  );
  const head = "// The JSON of the head's REST API: made from docs/openapi.json by `npm run types`, not to be edited.";
  const value = "/** What stands in the query of a path; nothing and null are left out. */";
  types.push(`${value}\nexport type Value = string | number | null | undefined;`);
  const what = "/** What each path takes, by name in the path or its query and as its body, and answers. */";
  types.push(`${what}\nexport type Calls = {\n${calls.join("\n")}\n};`);
  return format([head, ...types].join("\n\n"), { ...(await resolveConfig(target)), filepath: target });
}

const source = new URL("../../docs/openapi.json", import.meta.url);
const target = fileURLToPath(new URL("api.d.ts", import.meta.url));
const types = await typesOf(await readFile(source, "utf8"), target);
if (!process.argv.includes("--check")) {
  await writeFile(target, types);
} else if (types !== (await readFile(target, "utf8"))) {
  console.error("tests/browser/api.d.ts is not what docs/openapi.json says: run `npm run types` in tests/browser");
  process.exitCode = 1;
}
