package behaviour

import (
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/watch"
)

// startingOf names the starting profile that the image of a workload has; "" if it
// has none.
func startingOf(w *asset.Workload) (string, error) {
	st, err := watch.StartingFor(w.Image, w.Settings.Entrypoint)
	if err != nil || st == nil {
		return "", err
	}
	for _, name := range watch.StartingNames() {
		one, err := watch.StartingNamed(name)
		if err != nil {
			return "", err
		}
		if one.Name == st.Name {
			return name, nil
		}
	}
	return "", nil
}
