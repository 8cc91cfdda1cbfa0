package telemetry

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/route"
)

func init() { admin.RegisterStatus("traffic", statusOfTraffic, printTraffic) }

// serviceTraffic says when a service was asked for.
type serviceTraffic struct {
	Service string `json:"service"`
	// LastRequest is null if there was none since the service was configured.
	LastRequest *time.Time     `json:"last_request"`
	Routes      []routeTraffic `json:"routes"`
}

// routeTraffic says when a route of a service was asked for. Routes without requests are
// not known.
type routeTraffic struct {
	Route       string     `json:"route"`
	LastRequest *time.Time `json:"last_request"`
}

func statusOfTraffic() []serviceTraffic {
	list := []serviceTraffic{}
	for _, s := range services.Values() {
		list = append(list, s.traffic())
	}
	slices.SortFunc(list, func(a, b serviceTraffic) int { return strings.Compare(a.Service, b.Service) })
	return list
}

func (s *service) traffic() serviceTraffic {
	t := serviceTraffic{Service: s.label, Routes: []routeTraffic{}}
	add := func(rs *routeSeries) {
		last := time.Unix(rs.used.Load(), 0).UTC()
		if last.Unix() == 0 {
			return
		}
		if t.LastRequest == nil || last.After(*t.LastRequest) {
			t.LastRequest = &last
		}
		t.Routes = append(t.Routes, routeTraffic{rs.route, &last})
	}
	add(s.other)
	for _, rs := range *s.routes.Load() {
		add(rs)
	}
	slices.SortFunc(t.Routes, func(a, b routeTraffic) int { return strings.Compare(a.Route, b.Route) })
	return t
}

func printTraffic(w io.Writer, list []serviceTraffic) error {
	fmt.Fprintln(w, "SERVICE\tROUTES\tLAST REQUEST")
	for _, t := range list {
		last, routes := "never", 0
		if t.LastRequest != nil {
			last = t.LastRequest.Format(time.RFC3339)
		}
		for _, r := range t.Routes {
			if r.Route != route.Other {
				routes++
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", t.Service, routes, last)
	}
	return nil
}
