package respond

import "slices"

// Replay says what rules would have done about cases of the past, had each been
// answered when it happened, with their limits and cool-downs counted from before the
// first. done is called for each case with what the rules that fit say of it; nothing
// is done. The cases are put in the order of their times.
func Replay(rules []Rule, cases []Case, done func(*Case, []Decision)) {
	slices.SortStableFunc(cases, func(a, b Case) int { return a.At.Compare(b.At) })
	var m Memory
	for i := range cases {
		all := Decide(rules, &cases[i], m)
		for k := range all {
			if len(all[k].Do) > 0 {
				m = m.Add(all[k].Acted(&cases[i]))
			}
		}
		done(&cases[i], all)
	}
}
