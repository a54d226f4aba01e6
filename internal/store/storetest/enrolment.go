package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func settingsCases() []testCase {
	return []testCase{
		{"put, replace, remove", func(k *kit) {
			want := filled[asset.AgentSettings](k)
			all := asset.AgentSettings{Window: time.Minute}
			k.ok(k.st.PutAgentSettings(k.ctx, "a", asset.AgentSettings{Window: time.Hour}))
			k.ok(k.st.PutAgentSettings(k.ctx, "a", want))
			k.ok(k.st.PutAgentSettings(k.ctx, "", all))
			for id, want := range map[string]asset.AgentSettings{"a": want, "": all, "b": {}} {
				got, err := k.st.AgentSettings(k.ctx, id)
				k.ok(err)
				same(k, "settings of "+id, got, want)
			}
			k.ok(k.st.PutAgentSettings(k.ctx, "a", asset.AgentSettings{}))
			got, err := k.st.AgentSettings(k.ctx, "a")
			k.ok(err)
			same(k, "after the removal", got, asset.AgentSettings{})
		}},
	}
}

func invitation(n byte) access.Invitation {
	return access.Invitation{
		Hash: hash(n), Name: fmt.Sprint("host ", n), By: "user:anna",
		Created: base().Add(time.Duration(n) * time.Minute), Expires: base().Add(time.Hour),
	}
}

func (k *kit) invite(n byte) access.Invitation {
	k.Helper()
	i, err := k.st.PutInvitation(k.ctx, invitation(n))
	k.ok(err)
	return i
}

func (k *kit) invitations() []access.Invitation {
	k.Helper()
	got, err := k.st.Invitations(k.ctx)
	k.ok(err)
	return got
}

func invitationCases() []testCase {
	return []testCase{
		{"make and list, newest first", func(k *kit) {
			one, two := k.invite(1), k.invite(2)
			if one.ID == 0 || one.ID == two.ID {
				k.Errorf("ids %d and %d", one.ID, two.ID)
			}
			same(k, "invitations", k.invitations(), []access.Invitation{two, one})
			want := invitation(1)
			want.ID = one.ID
			same(k, "the first", one, want)
		}},
		{"a secret once", func(k *kit) {
			k.invite(1)
			_, err := k.st.PutInvitation(k.ctx, invitation(1))
			k.wantFault(err, fault.Conflict)
		}},
		{"another end", func(k *kit) {
			i := k.invite(1)
			i.Expires = base()
			_, err := k.st.PutInvitation(k.ctx, i)
			k.ok(err)
			_, err = k.st.UseInvitation(k.ctx, hash(1), "a", base())
			k.wantFault(err, fault.Denied)
			i.ID = 999
			_, err = k.st.PutInvitation(k.ctx, i)
			k.wantFault(err, fault.NotFound)
		}},
		{"use", func(k *kit) {
			want := k.invite(1)
			now := base().Add(5 * time.Minute)
			got, err := k.st.UseInvitation(k.ctx, hash(1), "agent-1", now)
			k.ok(err)
			want.Used, want.AgentID = &now, "agent-1"
			same(k, "used", got, want)
			same(k, "listed", k.invitations(), []access.Invitation{want})
			_, err = k.st.UseInvitation(k.ctx, hash(1), "agent-2", now)
			k.wantFault(err, fault.Denied)
			same(k, "after another try", k.invitations(), []access.Invitation{want})
			_, err = k.st.PutInvitation(k.ctx, got)
			k.wantFault(err, fault.NotFound)
		}},
		{"unknown", func(k *kit) {
			_, err := k.st.UseInvitation(k.ctx, hash(9), "a", base())
			k.wantFault(err, fault.Denied)
		}},
		{"expired", func(k *kit) {
			i := k.invite(1)
			_, err := k.st.UseInvitation(k.ctx, hash(1), "a", i.Expires)
			k.wantFault(err, fault.Denied)
			_, err = k.st.UseInvitation(k.ctx, hash(1), "a", i.Expires.Add(-1))
			k.ok(err)
		}},
		{"of many at once one wins", oneWins},
		{"go a week after their end", func(k *kit) {
			k.invite(1)
			used := k.invite(2)
			_, err := k.st.UseInvitation(k.ctx, hash(2), "a", base())
			k.ok(err)
			for _, c := range []struct{ days, want int }{{6, 2}, {8, 0}} {
				_, err := k.st.Prune(k.ctx, store.Retention{}, used.Expires.AddDate(0, 0, c.days))
				k.ok(err)
				same(k, "left", len(k.invitations()), c.want)
			}
		}},
	}
}

func oneWins(k *kit) {
	k.invite(1)
	const n = 16
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = k.st.UseInvitation(k.ctx, hash(1), fmt.Sprint("agent-", i), base()) })
	}
	wg.Wait()
	winner := ""
	for i, err := range errs {
		if err != nil {
			k.wantFault(err, fault.Denied)
			continue
		}
		if winner != "" {
			k.Errorf("%s and agent-%d both used it", winner, i)
		}
		winner = fmt.Sprint("agent-", i)
	}
	same(k, "who used it", k.invitations()[0].AgentID, winner)
}

func certificate(n int, agent string) access.Certificate {
	return access.Certificate{
		Serial: fmt.Sprintf("%040x", n), AgentID: agent, Hostname: "host", Address: "192.0.2.1",
		Issued: base().Add(time.Duration(n) * time.Minute), Expires: base().Add(time.Duration(n) * time.Hour),
	}
}

func (k *kit) certificates(agent string) []access.Certificate {
	k.Helper()
	got, err := k.st.Certificates(k.ctx, agent)
	k.ok(err)
	return got
}

func certificateCases() []testCase {
	return []testCase{
		{"every field comes back", func(k *kit) {
			want := filled[access.Certificate](k)
			k.ok(k.st.PutCertificate(k.ctx, want))
			same(k, "certificates", k.certificates(""), []access.Certificate{want})
		}},
		{"of one agent or all, newest first", func(k *kit) {
			a, b, c := certificate(1, "a"), certificate(2, "b"), certificate(3, "a")
			for _, v := range []access.Certificate{b, c, a} {
				k.ok(k.st.PutCertificate(k.ctx, v))
			}
			same(k, "all", k.certificates(""), []access.Certificate{c, b, a})
			same(k, "of a", k.certificates("a"), []access.Certificate{c, a})
			same(k, "of none", len(k.certificates("none")), 0)
		}},
		{"a serial number is of one agent", func(k *kit) {
			k.ok(k.st.PutCertificate(k.ctx, certificate(1, "a")))
			k.ok(k.st.PutCertificate(k.ctx, certificate(1, "a")))
			k.wantFault(k.st.PutCertificate(k.ctx, certificate(1, "b")), fault.Conflict)
			same(k, "all", k.certificates(""), []access.Certificate{certificate(1, "a")})
		}},
		{"revoke", revokeCertificates},
		{"go 90 days after their end", func(k *kit) {
			k.ok(k.st.PutCertificate(k.ctx, certificate(1, "a")))
			for _, c := range []struct{ days, want int }{{89, 1}, {91, 0}} {
				_, err := k.st.Prune(k.ctx, store.Retention{}, certificate(1, "a").Expires.AddDate(0, 0, c.days))
				k.ok(err)
				same(k, "left", len(k.certificates("")), c.want)
			}
		}},
	}
}

func revokeCertificates(k *kit) {
	now := base().Add(90 * time.Minute) // the first has expired
	for n := range 3 {
		k.ok(k.st.PutCertificate(k.ctx, certificate(n+1, "a")))
	}
	k.ok(k.st.PutCertificate(k.ctx, certificate(9, "b")))
	held, err := k.st.RevokeCertificates(k.ctx, "a", now)
	k.ok(err)
	same(k, "held", held, 2)
	for _, c := range k.certificates("") {
		if got, want := c.Revoked != nil && c.Revoked.Equal(now), c.AgentID == "a"; got != want {
			k.Errorf("%+v: revoked by now is %v, want %v", c, got, want)
		}
	}
	held, err = k.st.RevokeCertificates(k.ctx, "a", now.Add(time.Hour))
	k.ok(err)
	same(k, "held again", held, 0)
	// Neither a second revocation nor a repeated put changes when it was.
	k.ok(k.st.PutCertificate(k.ctx, certificate(3, "a")))
	same(k, "the first revocation", k.certificates("a")[0].Revoked.Equal(now), true)
	held, err = k.st.RevokeCertificates(k.ctx, "none", now)
	k.ok(err)
	same(k, "of an unknown agent", held, 0)
}
