package verify

import (
	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/trust"
)

// Explain says in words what a text means as a policy or, if it can't be one, what
// is wrong with it. It needs access.ReadImages.
func (s *Service) Explain(who access.Identity, text string) (means []trust.Passage, problems []trust.Problem, err error) {
	if err := who.Need(access.ReadImages); err != nil {
		return nil, nil, err
	}
	p, problems := s.parse(text)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	return p.Describe(), nil, nil
}
