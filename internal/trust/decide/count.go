package decide

import (
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// count chooses for each requirement that is not met yet the envelopes that meet
// it.
func (x *decision) count() {
	for i := range x.rule.Require {
		if x.met[i] == nil {
			q := &x.rule.Require[i]
			if chosen := elect(q, x.votes[i]); len(chosen) >= q.Threshold {
				x.met[i] = chosen
			}
		}
	}
}

// elect returns as many votes as can count together. Votes that share a mark are
// of the same person and count once; each signer counts once, a team once for
// each person unless each of the signers is wanted. So one person can't be two signers, though it may be either: of
// all ways to assign persons to signers the one with the most counts (a maximum
// matching).
func elect(q *policy.Requirement, votes []vote) []vote {
	signers := q.Signers
	people := persons(votes)
	holder := make([]int, len(signers)) // the person that counts for a signer
	for i := range holder {
		holder[i] = -1
	}
	chosen := make([]vote, len(people)) // by person; c is nil if it doesn't count
	var place func(p int, tried []bool) bool
	place = func(p int, tried []bool) bool {
		for _, v := range people[p] {
			for _, s := range v.signers {
				if tried[s] {
					continue
				}
				if !signers[s].Team || q.Each {
					tried[s] = true
					if h := holder[s]; h >= 0 && !place(h, tried) {
						continue
					}
					holder[s] = p
				}
				v.signer = s
				chosen[p] = v
				return true
			}
		}
		return false
	}
	for p := range people {
		place(p, make([]bool, len(signers)))
	}
	var out []vote
	for _, v := range chosen {
		if v.c != nil {
			out = append(out, v)
		}
	}
	return out
}

// persons puts the votes together that are of the same person.
func persons(votes []vote) [][]vote {
	root := make([]int, len(votes)) // a forest: who leads to the same vote is the same
	find := func(i int) int {
		for root[i] != i {
			i = root[i]
		}
		return i
	}
	first := map[string]int{}
	for i := range votes {
		root[i] = i
		for _, m := range policy.Marks(votes[i].c.signed.Identity, votes[i].profile) {
			j, known := first[m]
			if !known {
				first[m] = i
				continue
			}
			if a, b := find(i), find(j); a < b {
				root[b] = a
			} else {
				root[a] = b
			}
		}
	}
	var out [][]vote
	place := map[int]int{}
	for i, v := range votes {
		r := find(i)
		if _, known := place[r]; !known {
			place[r] = len(out)
			out = append(out, nil)
		}
		out[place[r]] = append(out[place[r]], v)
	}
	return out
}
