import { defineConfig } from "oxlint"

export default defineConfig({
  plugins: ["typescript", "unicorn", "oxc", "import", "promise", "node", "vitest"],
  jsPlugins: ["./scripts/boundaries.ts"],
  categories: { correctness: "error" },
  options: { typeAware: true, denyWarnings: true, reportUnusedDisableDirectives: "error" },
  env: { es2024: true },
  ignorePatterns: ["web/dist", "artifacts", "data"],
  rules: {
    "darda/boundaries": "error",
    eqeqeq: "error",
    "no-console": "error",
    "no-var": "error",
    "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_", caughtErrorsIgnorePattern: "^_" }],
    "prefer-const": ["error", { destructuring: "all", ignoreReadBeforeAssign: true }],
    "preserve-caught-error": "error",
    "import/no-cycle": ["error", { ignoreTypes: true }],
    "promise/no-multiple-resolved": "error",
    "typescript/await-thenable": "error",
    "typescript/ban-ts-comment": "error",
    "typescript/consistent-type-imports": "error",
    "typescript/no-explicit-any": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": ["error", { checksVoidReturn: { attributes: false } }],
    "typescript/no-unnecessary-type-assertion": "error",
    "typescript/no-unsafe-argument": "error",
    "typescript/no-unsafe-assignment": "error",
    "typescript/no-unsafe-call": "error",
    "typescript/no-unsafe-member-access": "error",
    "typescript/no-unsafe-return": "error",
    "typescript/only-throw-error": "error",
    "unicorn/prefer-node-protocol": "error",
    "vitest/no-disabled-tests": "error",
    "vitest/no-focused-tests": "error",
    // Helpers and properties expect on behalf of the test that calls them.
    "vitest/expect-expect": "off",
    "vitest/no-conditional-expect": "off",
    // A union such as `0 | Seq` says what 0 means there.
    "typescript/no-redundant-type-constituents": "off",
    // A copy is taken where the original changes during the loop.
    "unicorn/no-useless-spread": "off",
    "unicorn/no-new-array": "off",
    "typescript/no-misused-spread": "off",
    "typescript/no-meaningless-void-operator": "off",
    // These take Effect.catch for a promise's.
    "promise/no-callback-in-promise": "off",
    "promise/valid-params": "off"
  },
  overrides: [
    {
      files: ["src/**", "web/**"],
      rules: { "max-lines": ["error", { max: 400, skipBlankLines: true, skipComments: true }] }
    },
    {
      // What a test reads from outside has no type until it is compared; plain JavaScript has none at all.
      files: ["test/**", "bin/**"],
      rules: {
        "typescript/no-unsafe-argument": "off",
        "typescript/no-unsafe-assignment": "off",
        "typescript/no-unsafe-call": "off",
        "typescript/no-unsafe-member-access": "off",
        "typescript/no-unsafe-return": "off",
        "typescript/no-base-to-string": "off"
      }
    },
    {
      // What a command, a script or a process of a test prints is its result.
      files: [
        "src/main.ts",
        "src/main/**",
        "bin/**",
        "scripts/**",
        "bench/**",
        "k8s/**",
        "test/support/**",
        "test/simulation/**"
      ],
      rules: { "no-console": "off" }
    }
  ]
})
