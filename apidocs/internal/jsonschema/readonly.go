package jsonschema

// maxOutputReads is how many schemas are looked at to find which properties of one schema
// are read-only. Of one that takes more, no property is required.
const maxOutputReads = 20_000

// isOutput reports whether the schema says that the property is read-only. Its properties
// are collected when one that is required is missing for the first time.
func (s *Schema) isOutput(name string) bool {
	s.outputsOnce.Do(func() {
		reads := maxOutputReads
		s.eachOf(&reads, func(part *Schema) bool {
			for property, p := range part.properties {
				if !p.eachOf(&reads, func(of *Schema) bool { return !of.readOnly }) {
					if s.outputs == nil {
						s.outputs = map[string]struct{}{}
					}
					s.outputs[property] = struct{}{}
				}
			}
			return true
		})
		s.allOutputs = reads <= 0
	})
	_, ok := s.outputs[name]
	return ok || s.allOutputs
}

// eachOf calls f for the schema and for what it refers to and is combined of by allOf,
// until f returns false or all reads are used up. It returns what f returned last.
func (s *Schema) eachOf(reads *int, f func(part *Schema) bool) bool {
	seen := map[*Schema]bool{nil: true}
	for next := []*Schema{s}; len(next) > 0 && *reads > 0; {
		part := next[len(next)-1]
		if next = next[:len(next)-1]; seen[part] {
			continue
		}
		seen[part] = true
		if *reads--; !f(part) {
			return false
		}
		if part.ref != nil {
			next = append(next, part.ref.target())
		}
		next = append(next, part.allOf...)
	}
	return true
}
