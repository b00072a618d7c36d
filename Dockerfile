# CPU image: docker build -t perceiver-io .
#   docker run --rm -v "$PWD/runs:/runs" perceiver-io train --config=demo --workdir=/runs/demo
FROM python:3.12-slim

WORKDIR /src
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY perceiver_io ./perceiver_io
RUN pip install --no-cache-dir --no-deps .

RUN useradd --create-home user
USER user
WORKDIR /home/user
ENTRYPOINT ["perceiver-io"]
CMD ["--help"]
