// Command openapi-judge has an independent validator look at pairs of OpenAPI documents:
// one of a service, and the one that the gateway made of it. It fails if the gateway's
// is invalid where that of the service is valid.
package main

import (
	"fmt"
	"os"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// faults returns what the validator finds.
func faults(file string) (list []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	_, found := v.ValidateDocument()
	for _, f := range found {
		for _, s := range f.SchemaValidationErrors {
			list = append(list, s.FieldPath+": "+s.Reason)
		}
		if len(f.SchemaValidationErrors) == 0 {
			list = append(list, f.Message+": "+f.Reason)
		}
	}
	return list, nil
}

func main() {
	failed := false
	for args := os.Args[1:]; len(args) >= 2; args = args[2:] {
		before, err := faults(args[0])
		if err != nil {
			before = append(before, err.Error())
		}
		after, err := faults(args[1])
		if err != nil {
			after = append(after, err.Error())
		}
		fmt.Printf("%s: %d faults in that of the service, %d in the merged one\n", args[1], len(before), len(after))
		if len(before) == 0 && len(after) > 0 {
			failed = true
		}
		for i, f := range after {
			if i < 5 {
				fmt.Println("  ", f)
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}
