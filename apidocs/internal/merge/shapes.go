package merge

import (
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// shape says what the members of an object of OpenAPI are, so that references and
// names are rewritten where they are ones, and examples are left as they are.
type shape struct {
	// fields are the members that have a shape of their own.
	fields map[string]*shape
	// each is the shape of the other members, or of the items of a list.
	each *shape
	// list: the value is an array.
	list bool
	// extensions: members whose names begin with x- do not have the shape each.
	extensions bool
	// reference: the object may be a Reference Object.
	reference bool
	// write writes an object of the shape, where it takes more than its members.
	write func(b *builder, v tree.Value)
	// data: the value is nobody's but the service's, and copied.
	data bool
}

// extension reports whether a member is an extension of the specification.
func extension(name string) bool { return strings.HasPrefix(name, "x-") }

var (
	// data is copied as it is.
	data = &shape{data: true}
	// sample is the value of an example, see sampleOf.
	sample = &shape{}
	// loose is what this package does not know: references in it are rewritten where
	// they lead to something in the document.
	loose = &shape{}
	// dropped members are left out.
	dropped = &shape{}

	schema          = &shape{}
	discriminator   = &shape{}
	header          = &shape{reference: true}
	parameter       = &shape{reference: true}
	requestBody     = &shape{reference: true}
	response        = &shape{reference: true}
	example         = &shape{reference: true, fields: map[string]*shape{"value": data, "dataValue": data, "serializedValue": data}}
	link            = &shape{reference: true}
	securityScheme  = &shape{reference: true}
	callback        = &shape{reference: true, extensions: true}
	mediaType       = &shape{reference: true}
	encoding        = &shape{}
	pathItem        = &shape{reference: true}
	operation       = &shape{}
	tag             = &shape{}
	responses       = &shape{each: response, extensions: true}
	unusedReference = "x-unresolved-ref"
)

// mapOf returns the shape of an object whose members all have a shape.
func mapOf(each *shape) *shape { return &shape{each: each} }

// listOf returns the shape of an array.
func listOf(each *shape) *shape { return &shape{each: each, list: true} }

// methods are the members of a path item that are operations.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"}

// Methods returns the members of a path item that are operations.
func Methods() []string { return methods }

// componentShapes are the kinds of components.
var componentShapes = map[string]*shape{
	"schemas": schema, "responses": response, "parameters": parameter, "examples": example, "requestBodies": requestBody, "headers": header,
	"securitySchemes": securityScheme, "links": link, "callbacks": callback, "pathItems": pathItem, "mediaTypes": mediaType,
}

// componentKinds are the kinds in the order of the merged document.
var componentKinds = []string{
	"schemas", "responses", "parameters", "examples", "requestBodies", "headers", "securitySchemes", "links", "callbacks", "pathItems", "mediaTypes",
}

func init() {
	schemas, schemaList := mapOf(schema), listOf(schema)
	schema.fields = map[string]*shape{
		"properties": schemas, "patternProperties": schemas, "$defs": schemas, "definitions": schemas, "dependentSchemas": schemas,
		"additionalProperties": schema, "items": schema, "not": schema, "if": schema, "then": schema, "else": schema, "contains": schema,
		"propertyNames": schema, "unevaluatedItems": schema, "unevaluatedProperties": schema, "additionalItems": schema, "contentSchema": schema,
		"allOf": schemaList, "anyOf": schemaList, "oneOf": schemaList, "prefixItems": schemaList,
		"default": data, "example": sample, "examples": data, "enum": data, "const": data,
		"discriminator": discriminator, "externalDocs": data, "xml": data,
	}
	schema.write = (*builder).schema
	examples, headers, content := mapOf(example), mapOf(header), mapOf(mediaType)
	mediaType.fields = map[string]*shape{
		"schema": schema, "itemSchema": schema, "example": sample, "examples": examples,
		"encoding": mapOf(encoding), "prefixEncoding": listOf(encoding), "itemEncoding": encoding,
	}
	encoding.fields = map[string]*shape{"headers": headers, "encoding": mapOf(encoding), "prefixEncoding": listOf(encoding), "itemEncoding": encoding}
	header.fields = map[string]*shape{"schema": schema, "example": sample, "examples": examples, "content": content}
	parameter.fields = header.fields
	requestBody.fields = map[string]*shape{"content": content}
	response.fields = map[string]*shape{"headers": headers, "content": content, "links": mapOf(link)}
	link.fields = map[string]*shape{"parameters": data, "requestBody": data, "server": dropped}
	link.write = (*builder).link
	callback.each = pathItem
	pathItem.fields = map[string]*shape{"parameters": listOf(parameter), "servers": dropped, "additionalOperations": mapOf(operation)}
	for _, method := range methods {
		pathItem.fields[method] = operation
	}
	operation.fields = map[string]*shape{
		"parameters": listOf(parameter), "requestBody": requestBody, "responses": responses, "callbacks": mapOf(callback),
		"servers": dropped, "externalDocs": data, "tags": dropped, "security": dropped,
	}
	operation.write = (*builder).operation
	tag.fields = map[string]*shape{"externalDocs": data}
	tag.write = (*builder).tag
	securityScheme.fields = map[string]*shape{"flows": data}
	discriminator.fields = map[string]*shape{}
}
