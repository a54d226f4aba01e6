package cvss

import "math"

// metrics2 are those of version 2.0, the base group first.
var metrics2 = []metric{
	{"AV", "L A N"}, {"AC", "H M L"}, {"Au", "M S N"}, {"C", "N P C"}, {"I", "N P C"}, {"A", "N P C"},
	{"E", "U POC F H"}, {"RL", "OF TF W U"}, {"RC", "UC UR C"},
	{"CDP", "N L LM MH H"}, {"TD", "N L M H"}, {"CR", "L M H"}, {"IR", "L M H"}, {"AR", "L M H"},
}

const base2 = 6

// Weights of version 2.0, in the order of metrics2.
var (
	access2     = [...]float64{0.395, 0.646, 1.0}
	complexity2 = [...]float64{0.35, 0.61, 0.71}
	login2      = [...]float64{0.45, 0.56, 0.704}
	impact2     = [...]float64{0, 0.275, 0.660}
)

// score2 is the base equation of section 3.2.1.
func score2(vector string) (Score, error) {
	var levels [14]int8
	if err := read(vector, metrics2, "ND", levels[:]); err != nil {
		return Score{}, err
	}
	if err := whole(metrics2, levels[:], base2); err != nil {
		return Score{}, err
	}
	impact := 10.41 * (1 - (1-impact2[levels[3]])*(1-impact2[levels[4]])*(1-impact2[levels[5]]))
	exploitability := 20 * access2[levels[0]] * complexity2[levels[1]] * login2[levels[2]]
	base := 0.0
	if impact > 0 {
		base = (0.6*impact + 0.4*exploitability - 1.5) * 1.176
	}
	return Score{"2.0", math.Round(base*10) / 10}, nil
}
