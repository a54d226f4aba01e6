package secret

import (
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// urlCredentials finds scheme://user:password@host. b has "://" at the place at.
func (s *sifting) urlCredentials(at int) {
	l, ok := judge.LoginAt(s.buf, at)
	if !ok {
		s.promising = s.promising || judge.BeginsLogin(s.buf, at)
		return
	}
	if l.TokenAsUser() {
		s.add(ruleURL, "", l.User, "", l.UserAt)
		return
	}
	doubt, ok := l.Judge(s.placeAt(at))
	if !ok {
		s.promising = s.promising || judge.IsTemplate(l.Password) // the document may say what is put in its place
		return
	}
	if doubt == "" && classOf(s.f.Path) == prose {
		doubt = doubtDocument
	}
	s.add(ruleURL, shownUser(l.User), l.Password, doubt, l.PasswordAt)
}

// shownUser is a user's name as it may be shown: not one that may be a secret
// itself.
func shownUser(user string) string {
	const longest = 32
	if len(user) > longest || len(user) >= judge.LeastToken && judge.LooksRandom(user) && !judge.Wordy(user) {
		return ""
	}
	return user
}
