package caddyfile

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/nearby"
)

// unmarshalReaders takes who may read the metrics or the documents from the line of
// the option.
func (g *gateway) unmarshalReaders(option string, segment caddyfile.Segment) (caddyfile.Segment, error) {
	args := argsOf(segment)
	if len(args) == 0 || len(args) == 1 && (args[0] == off || args[0] == "on") {
		return segment, nil
	}
	for _, arg := range args {
		if err := checkNetwork(arg); err != nil {
			return nil, err
		}
		if arg == nearby.Any && len(args) > 1 {
			return nil, fmt.Errorf("any: leave the others out")
		}
	}
	g.readers[option] = args
	rest := slices.Clone(segment[:1])
	rest = append(rest, segment[1+len(args):]...)
	if len(rest) > 1 {
		rest[1].Line = rest[0].Line // the brace
	}
	return rest, nil
}

// checkNetwork accepts an address, a network, private_ranges and any.
func checkNetwork(text string) error {
	_, err := nearby.Parse([]string{text})
	return err
}

// onlyFor returns a route that refuses everybody else; without a list, all that
// are not in a private network.
func (g *gateway) onlyFor(readers []string) caddyhttp.RouteList {
	if len(readers) == 0 {
		readers = []string{nearby.PrivateRanges}
	}
	if readers[0] == nearby.Any {
		return nil
	}
	refuse := &Problem{Status: http.StatusNotFound, Detail: "there is nothing at this path", Except: readers}
	return handler(refuse, "problem")
}

// health returns the health directive.
func (g *gateway) health() []caddyfile.Segment {
	f := g.features["health"]
	if f.off {
		return nil
	}
	segment := words("health").segment()
	if len(f.segments) > 0 {
		segment = f.segments[0]
	}
	return []caddyfile.Segment{withDefaults(segment, optionsOf(segment), words("details", nearby.PrivateRanges))}
}
