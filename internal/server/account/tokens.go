package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// tokenPrefix lets people and secret scanners recognise a token.
	tokenPrefix = "cst_"
	// shownLen is how much of a token is kept to recognise it by: 24 of its
	// 256 random bits.
	shownLen     = len(tokenPrefix) + 4
	maxTokenName = 64
)

// NewToken is what an API token is asked to be.
type NewToken struct {
	Name    string
	Scopes  []access.Scope
	Expires *time.Time // nil: never
}

// ByToken returns who an API token speaks for; Unauthenticated when it is
// unknown, expired, or its owner may no longer sign in. A token never carries
// more than its owner may grant today, whatever it was made with.
func (s *Service) ByToken(ctx context.Context, secret, address string) (access.Identity, error) {
	if len(secret) != len(tokenPrefix)+secretLen || !strings.HasPrefix(secret, tokenPrefix) {
		return access.Identity{}, noToken()
	}
	now := s.clock()
	t, err := s.token(ctx, digest(secret), now)
	if err != nil {
		return access.Identity{}, err
	}
	if t.Expires != nil && !now.Before(*t.Expires) {
		return access.Identity{}, noToken()
	}
	s.recordUse(ctx, t.Token, now)
	return access.Identity{
		Actor: "token:" + t.Owner + "/" + t.Name, Name: t.Name, Address: address,
		Scopes: slices.DeleteFunc(slices.Clone(t.Scopes), func(sc access.Scope) bool {
			return !slices.Contains(t.granted, sc)
		}),
	}, nil
}

// token returns the token of a hash with what its owner may grant.
func (s *Service) token(ctx context.Context, hash []byte, now time.Time) (*knownToken, error) {
	t, changes := s.st.known(hash, now)
	if t != nil {
		return t, nil
	}
	found, err := s.st.Tokens(ctx, store.TokenQuery{Hash: hash})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read a token: %w", err)
	}
	if len(found) != 1 {
		return nil, noToken()
	}
	t = &knownToken{Token: found[0], at: now}
	if t.granted, err = s.ownerGrants(ctx, t.Owner); err != nil {
		return nil, err
	}
	s.st.remember(t, changes)
	return t, nil
}

func noToken() error {
	return fault.New(fault.Unauthenticated, "the API token is unknown or has expired").
		With("make a new token in the console or with the command line")
}

// ownerGrants returns what the owner of a token may grant today.
func (s *Service) ownerGrants(ctx context.Context, owner string) ([]access.Scope, error) {
	if owner == LocalOwner {
		return access.Scopes(), nil
	}
	u, err := s.st.UserByName(ctx, owner)
	if fault.Is(err, fault.NotFound) || err == nil && u.Disabled {
		return nil, noToken()
	}
	if err != nil {
		return nil, fmt.Errorf("read a token's owner: %w", err)
	}
	return u.Role.Scopes(), nil
}

// recordUse notes the token's use at most once in usedEvery. The request goes
// on if that fails: a full disk must not keep operators from looking.
func (s *Service) recordUse(ctx context.Context, t access.Token, now time.Time) {
	s.mu.Lock()
	last, tried := s.used[t.ID]
	due := !tried || now.Sub(last) >= usedEvery || now.Before(last)
	if due {
		s.used[t.ID] = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	t.LastUsed = &now
	if _, err := s.st.PutToken(ctx, t); err != nil {
		s.log.Warn("use of a token not recorded", "token_id", t.ID, "error", err)
	}
}

// Grantable lists the scopes that who may put into a token: never more than
// they carry. A token makes tokens only with access.ManageTokens, so that a
// stolen one cannot outlive its removal.
func Grantable(who access.Identity) []access.Scope {
	switch {
	case who.Role != "" && !who.MustChange:
		return who.Role.Scopes()
	case who.May(access.ManageTokens):
		return slices.Clone(who.Scopes)
	}
	return nil
}

// ownerOf returns whose tokens are one's own; "" for nobody.
func ownerOf(who access.Identity) string {
	kind, name, _ := strings.Cut(who.Actor, ":")
	switch kind {
	case "user":
		return name
	case "local":
		return LocalOwner
	case "token":
		owner, _, _ := strings.Cut(name, "/")
		return owner
	}
	return ""
}

// Tokens lists one's own tokens, or with access.ManageTokens everyone's. A
// token without that scope sees none.
func (s *Service) Tokens(ctx context.Context, who access.Identity) ([]access.Token, error) {
	q := store.TokenQuery{}
	if !who.May(access.ManageTokens) {
		if who.Role == "" || who.MustChange {
			return nil, need(who, access.ManageTokens)
		}
		q.Owner = ownerOf(who)
	}
	tokens, err := s.st.Tokens(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, nil
}

// CreateToken makes a token of who asks and returns its secret, which is kept
// nowhere else. Denied means a scope that is not Grantable.
func (s *Service) CreateToken(ctx context.Context, who access.Identity, n NewToken) (access.Token, string, error) {
	n.Name = strings.TrimSpace(n.Name)
	n.Scopes = slices.Compact(slices.Sorted(slices.Values(n.Scopes)))
	if err := n.check(who, s.clock()); err != nil {
		return access.Token{}, "", err
	}
	owner := ownerOf(who)
	s.changes.Lock()
	defer s.changes.Unlock()
	own, err := s.st.Tokens(ctx, store.TokenQuery{Owner: owner})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return access.Token{}, "", fmt.Errorf("count tokens: %w", err)
	}
	if len(own) >= MaxTokens {
		return access.Token{}, "", fault.New(fault.Exhausted, "%s has %d tokens already", owner, len(own)).
			With("delete those that are no longer used")
	}
	value := tokenPrefix + secret()
	t, err := s.st.PutToken(ctx, access.Token{
		Name: n.Name, Owner: owner, Hash: digest(value), Prefix: value[:shownLen],
		Scopes: n.Scopes, Created: s.clock(), Expires: n.Expires,
	})
	if err != nil {
		return access.Token{}, "", fmt.Errorf("create token %q: %w", n.Name, err)
	}
	if err := s.audit(ctx, who, "token.create", tokenTarget(t), audit.Done, fmt.Sprintf("scopes %v", t.Scopes)); err != nil {
		return access.Token{}, "", err
	}
	return t, value, nil
}

func (n NewToken) check(who access.Identity, now time.Time) error {
	granted := Grantable(who)
	if len(granted) == 0 {
		return need(who, access.ManageTokens)
	}
	switch {
	case n.Name == "" || len(n.Name) > maxTokenName || !utf8.ValidString(n.Name) ||
		strings.ContainsFunc(n.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fault.New(fault.Invalid, "name: want 1 to %d bytes of printable text", maxTokenName)
	case len(n.Scopes) == 0:
		return fault.New(fault.Invalid, "scopes: want at least one of %v", granted)
	case n.Expires != nil && !n.Expires.After(now):
		return fault.New(fault.Invalid, "expires: lies in the past")
	}
	for _, sc := range n.Scopes {
		if !slices.Contains(access.Scopes(), sc) {
			return fault.New(fault.Invalid, "scopes: want some of %v", granted)
		}
		if !slices.Contains(granted, sc) {
			return fault.New(fault.Denied, "scopes: %s may not grant %s", who.Actor, sc)
		}
	}
	return nil
}

func tokenTarget(t access.Token) string { return "token:" + t.Owner + "/" + t.Name }

// DeleteToken removes a token of one's own, or with access.ManageTokens
// anybody's. Another's token is NotFound to who may not see it.
func (s *Service) DeleteToken(ctx context.Context, who access.Identity, id int64) error {
	tokens, err := s.Tokens(ctx, who)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tokens, func(t access.Token) bool { return t.ID == id })
	if i < 0 {
		return fault.New(fault.NotFound, "there is no token %d", id)
	}
	if err := s.st.DeleteToken(ctx, id); err != nil {
		return fmt.Errorf("delete token %d: %w", id, err)
	}
	s.mu.Lock()
	delete(s.used, id)
	s.mu.Unlock()
	return s.audit(ctx, who, "token.delete", tokenTarget(tokens[i]), audit.Done, "")
}
