package snapshot

import "encoding/json"

// boundCircuits leaves circuits out of the part breakers where there are too many: first those
// that are closed and not forced. It returns how many circuits are not closed, and how many
// are left out.
func boundCircuits(status StatusPart) (notClosed, more int) {
	var list []json.RawMessage
	read(status["breakers"], &list)
	notable := make([]bool, len(list))
	for i, text := range list {
		var circuit struct {
			State  string
			Forced float64 `json:"forced_seconds"`
		}
		read(text, &circuit)
		if circuit.State != "closed" {
			notClosed++
		}
		notable[i] = circuit.State != "closed" || circuit.Forced > 0
	}
	if len(list) <= maxCircuits {
		return notClosed, 0
	}
	kept := make([]json.RawMessage, 0, maxCircuits)
	for i, keep := range choose(notable, maxCircuits) {
		if keep {
			kept = append(kept, list[i])
		}
	}
	status.set("breakers", kept)
	return notClosed, len(list) - maxCircuits
}

// boundUpstreams leaves upstreams out of the part services where there are too many: first
// those that are not known to be unhealthy. It returns how many are left out.
func boundUpstreams(status StatusPart) (more int) {
	var services []map[string]json.RawMessage
	read(status["services"], &services)
	upstreams, notable := make([][]json.RawMessage, len(services)), []bool{}
	for i, service := range services {
		read(service["upstreams"], &upstreams[i])
		for _, text := range upstreams[i] {
			var upstream struct{ Healthy *bool }
			read(text, &upstream)
			notable = append(notable, upstream.Healthy != nil && !*upstream.Healthy)
		}
	}
	if len(notable) <= maxUpstreams {
		return 0
	}
	chosen, kept := choose(notable, maxUpstreams), []map[string]json.RawMessage{}
	for i, service := range services {
		list := []json.RawMessage{}
		for j, text := range upstreams[i] {
			if chosen[j] {
				list = append(list, text)
			}
		}
		chosen = chosen[len(upstreams[i]):]
		if len(list) > 0 {
			StatusPart(service).set("upstreams", list)
			kept = append(kept, service)
		}
	}
	status.set("services", kept)
	return len(notable) - maxUpstreams
}

// choose says which of the things to keep if there is room for so many: the notable ones
// before others, and the first before later ones.
func choose(notable []bool, room int) []bool {
	chosen := make([]bool, len(notable))
	for _, first := range []bool{true, false} {
		for i, is := range notable {
			if is == first && room > 0 {
				chosen[i] = true
				room--
			}
		}
	}
	return chosen
}

// set replaces a part by what was read from it.
func (s StatusPart) set(name string, value any) {
	if text, err := json.Marshal(value); err == nil {
		s[name] = text
	}
}
