package apidocs

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pythopus/tentagate/internal/admin"
)

func init() {
	admin.RegisterStatus("docs", documentStatuses, printStatus)
	admin.RegisterAPI("docs", admin.Endpoint{Pattern: adminPath, Serve: serveAdmin, Operations: []admin.Operation{
		{Method: http.MethodGet, Summary: "The OpenAPI documents of the services", Answer: []documentStatus{}},
		{
			Method: http.MethodPost, Summary: "Fetches documents again, and waits for that", Query: map[string]string{"refresh": "The name of a service, or all. Required"},
			Answer: []documentStatus{}, Fails: map[int]string{http.StatusBadRequest: "refresh is missing", http.StatusNotFound: "There is no such service"},
		},
	}}, admin.Endpoint{Pattern: callsPath, Serve: serveCalls, Operations: []admin.Operation{
		{Method: http.MethodGet, Summary: "Calls that are not in the OpenAPI documents of the services, and operations that nobody called", Answer: []callReport{}},
	}})
}

const (
	// adminPath is the endpoint of the admin API.
	adminPath = "/tentagate/docs"
	// callsPath is that of the report of calls.
	callsPath = adminPath + "/calls"
)

// serveAdmin shows and refreshes the documents of the services:
//
//	GET  /tentagate/docs                        the state of each document
//	POST /tentagate/docs?refresh=<service|all>  fetches again, and shows the state
//	GET  /tentagate/docs/calls                  calls that no document has, and operations that nobody calls
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		var list []admin.Refreshable
		for _, s := range sources.Values() {
			list = append(list, admin.Refreshable{Name: s.service, Refresh: s.Refresh})
		}
		if err := admin.Refresh(r, "service", list); err != nil {
			return err
		}
	}
	return admin.JSON(w, documentStatuses())
}

func serveCalls(w http.ResponseWriter, _ *http.Request) error { return admin.JSON(w, callReports()) }

// documentStatus is the state of a service's document.
type documentStatus struct {
	Service string `json:"service"`
	// Source is where the document is looked for, From where it was found.
	Source string `json:"source"`
	From   string `json:"from,omitempty"`
	// Result of the last fetch: ok, unchanged, none or error; pending before it.
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
	// Fetched is when the document was last known to be current.
	Fetched *time.Time `json:"fetched,omitempty"`
	// OpenAPI is the version that it is written in.
	OpenAPI  string   `json:"openapi,omitempty"`
	Swagger2 bool     `json:"converted_from_swagger_2,omitempty"`
	Title    string   `json:"title,omitempty"`
	Version  string   `json:"version,omitempty"`
	Problems []string `json:"problems"`
}

// documentStatuses returns the state of the documents of all services that are configured.
func documentStatuses() []documentStatus {
	list := []documentStatus{}
	for _, s := range sources.Values() {
		known := s.Status()
		one := documentStatus{Service: s.service, Source: s.where, From: known.From, Result: known.Result, Problems: []string{}}
		one.Result = cmp.Or(one.Result, "pending")
		if known.Err != nil {
			one.Error = known.Err.Error()
		}
		if !known.Fetched.IsZero() {
			at := known.Fetched.UTC()
			one.Fetched = &at
		}
		if d := known.Document; d != nil {
			one.OpenAPI, one.Swagger2, one.Title, one.Version = d.OpenAPI, d.Converted, d.Title, d.Version
			one.Problems = append(one.Problems, d.Problems...)
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b documentStatus) int { return strings.Compare(a.Service+" "+a.Source, b.Service+" "+b.Source) })
	return list
}

func printStatus(w io.Writer, list []documentStatus) error {
	fmt.Fprintln(w, "SERVICE\tRESULT\tOPENAPI\tPROBLEMS\tSOURCE\tERROR")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Service, s.Result, cmp.Or(s.OpenAPI, "-"), len(s.Problems), cmp.Or(s.From, s.Source), cmp.Or(s.Error, "-"))
	}
	return nil
}
