package deploy

func serve(string) {}
