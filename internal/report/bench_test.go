package report_test

import (
	"testing"

	"sluice/internal/report"
)

// uplink is of the size of a usual one, with three base stations.
const uplink = `{"DevEUI_uplink":{"Time":"2026-03-01T10:00:00.250+01:00","DevEUI":"0251C0DE00000001","DevAddr":"0B000001","FPort":7,` +
	`"FCntUp":1871,"LostUplinksAS":0,"ADRbit":1,"MType":2,"FCntDn":12,"payload_hex":"0000074f9d1c0a77e2b15f03","mic_hex":"5d0e9f31",` +
	`"Lrcid":"00000B17","LrrRSSI":-83.0,"LrrSNR":6.25,"LrrESP":-83.922,"SpFact":9,"SubBand":"G1","Channel":"LC4","DevLrrCnt":3,` +
	`"Lrrid":"5E0000A0","Late":0,"LrrLAT":47.378123,"LrrLON":8.540017,"Lrrs":{"Lrr":[` +
	`{"Lrrid":"5E0000A0","Chain":0,"LrrRSSI":-83.0,"LrrSNR":6.25,"LrrESP":-83.922},` +
	`{"Lrrid":"5E0000A1","Chain":0,"LrrRSSI":-97.0,"LrrSNR":1.5,"LrrESP":-99.336},` +
	`{"Lrrid":"5E0000A2","Chain":0,"LrrRSSI":-110.0,"LrrSNR":-4.0,"LrrESP":-115.455}]},"CustomerID":"100009731",` +
	`"CustomerData":{"loc":{"lat":"47.3769","lon":"8.5417"},"alr":{"pro":"SLUICE/WEATHER","ver":"1"},"tags":["gas","site=north"],"name":"Station 1"},` +
	`"BaseStationData":{"doms":[{"n":"North","g":"Area"}],"name":"Roof of the mill"},"ModelCfg":"1:TagA",` +
	`"DriverCfg":{"mod":{"pId":"sluice","mId":"weather","ver":"1"},"app":{"pId":"sluice","mId":"weather","ver":"1"}},` +
	`"InstantPER":0.0,"MeanPER":0.002137,"TxPower":14.0,"NbTrans":1,"Frequency":867.3,"DynamicClass":"A","MaxWaitASResps":0}}`

func BenchmarkParse(b *testing.B) {
	document := []byte(uplink)
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := report.Parse(document); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFingerprint(b *testing.B) {
	document := []byte(uplink)
	r, err := report.Parse(document)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Fingerprint("c0ffee0ddba11", document)
	}
}
