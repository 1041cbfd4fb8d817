// First, before any schema is built: tests decode with the same compiled parsers as the server.
import "effect/schema/SchemaJITCompiler/enable"
